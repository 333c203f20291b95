//! Result codes of the protocol. Spec: client-protocol 9. Java: `KeeperException.Code`.

use std::fmt;

macro_rules! error_codes {
    ($($variant:ident = $number:literal $name:literal,)*) => {
        /// A reason the protocol knows for not doing what a client asked. Success is the absence of one (`Ok`), 0 on
        /// the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum ErrorCode { $($variant = $number,)* }

        impl ErrorCode {
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// Java's spelling, as its logs and clients print it.
            pub fn name(self) -> &'static str {
                match self { $(ErrorCode::$variant => $name,)* }
            }
        }

        /// The error is the number itself: 0, or a code this protocol does not know.
        impl TryFrom<i32> for ErrorCode {
            type Error = i32;

            fn try_from(number: i32) -> Result<ErrorCode, i32> {
                match number {
                    $($number => Ok(ErrorCode::$variant),)*
                    other => Err(other),
                }
            }
        }
    };
}

error_codes! {
    SystemError = -1 "SYSTEMERROR",
    RuntimeInconsistency = -2 "RUNTIMEINCONSISTENCY",
    DataInconsistency = -3 "DATAINCONSISTENCY",
    ConnectionLoss = -4 "CONNECTIONLOSS",
    MarshallingError = -5 "MARSHALLINGERROR",
    Unimplemented = -6 "UNIMPLEMENTED",
    OperationTimeout = -7 "OPERATIONTIMEOUT",
    BadArguments = -8 "BADARGUMENTS",
    UnknownSession = -12 "UNKNOWNSESSION",
    NewConfigNoQuorum = -13 "NEWCONFIGNOQUORUM",
    ReconfigInProgress = -14 "RECONFIGINPROGRESS",
    ApiError = -100 "APIERROR",
    NoNode = -101 "NONODE",
    NoAuth = -102 "NOAUTH",
    BadVersion = -103 "BADVERSION",
    NoChildrenForEphemerals = -108 "NOCHILDRENFOREPHEMERALS",
    NodeExists = -110 "NODEEXISTS",
    NotEmpty = -111 "NOTEMPTY",
    SessionExpired = -112 "SESSIONEXPIRED",
    InvalidCallback = -113 "INVALIDCALLBACK",
    InvalidAcl = -114 "INVALIDACL",
    AuthFailed = -115 "AUTHFAILED",
    SessionMoved = -118 "SESSIONMOVED",
    NotReadOnly = -119 "NOTREADONLY",
    EphemeralOnLocalSession = -120 "EPHEMERALONLOCALSESSION",
    NoWatcher = -121 "NOWATCHER",
    RequestTimeout = -122 "REQUESTTIMEOUT",
    ReconfigDisabled = -123 "RECONFIGDISABLED",
    SessionClosedRequireSaslAuth = -124 "SESSIONCLOSEDREQUIRESASLAUTH",
    QuotaExceeded = -125 "QUOTAEXCEEDED",
    ThrottledOp = -127 "THROTTLEDOP",
}

impl ErrorCode {
    /// The number sent on the wire.
    pub fn number(self) -> i32 {
        self as i32
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_from_its_number_and_unassigned_numbers_do_not() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::try_from(code.number()), Ok(*code));
        }
        for unassigned in [0, 1, -9, -10, -11, -104, -107, -109, -116, -117, -126, -128, i32::MIN] {
            assert_eq!(ErrorCode::try_from(unassigned), Err(unassigned));
        }
        assert_eq!(ErrorCode::NoNode.to_string(), "NONODE");
    }
}
