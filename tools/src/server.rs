//! One server under test, ringkeeper or the Java reference, through one shape: what is true of one is asked of the other.
//!
//! A [`Setup`] says what to start and where; [`Setup::start`] returns once the client port answers `srvr`. The data
//! directory outlives the process, so that `start` after a kill is a recovery. A [`Running`] server that is dropped is
//! killed: no test leaves one behind.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::{Result, process};

const READY_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
const PORT_TIMEOUT: Duration = Duration::from_secs(3);
/// For the answer to a word: of a server that serves, and of one that may never answer, for those who ask again.
const WORD_TIMEOUT: Duration = Duration::from_secs(60);
const GLANCE_TIMEOUT: Duration = Duration::from_secs(2);
/// Whatever ends this process ends its servers. What counts is the end of the thread that starts one: it has to stay for as long as
/// the server is wanted.
const DIE_WITH_US: [&str; 3] = ["setpriv", "--pdeathsig", "KILL"];
/// Where `ip netns` keeps them.
const NAMESPACES: &str = "/run/netns";
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Which program serves.
#[derive(Clone, Debug)]
pub enum Kind {
    Ringkeeper { binary: PathBuf },
    Java { class_path: String },
}

impl Kind {
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Ringkeeper { .. } => "ringkeeper",
            Kind::Java { .. } => "java",
        }
    }
}

/// Where a server's sockets are.
#[derive(Clone, Debug)]
pub struct Home {
    pub address: Ipv4Addr,
    /// A network namespace of its own, by its name at `ip netns`.
    pub namespace: Option<String>,
}

impl Default for Home {
    fn default() -> Home {
        Home { address: Ipv4Addr::LOCALHOST, namespace: None }
    }
}

/// A server that can be started, again and again, on the same data.
#[derive(Clone, Debug)]
pub struct Setup {
    pub kind: Kind,
    pub directory: PathBuf,
    pub home: Home,
    pub port: u16,
    pub tick_ms: u32,
    /// The number in `myid`, of a member of an ensemble.
    pub my_id: Option<i64>,
    /// Further lines of the configuration file; those that begin with `-D` go on the command line.
    pub extra: Vec<String>,
}

impl Setup {
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((self.home.address, self.port))
    }

    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub fn log(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    /// Removes everything a former run left.
    pub fn wipe(&self) -> Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Starts the server and waits until it answers.
    pub fn start(&self) -> Result<Running> {
        let mut running = self.launch()?;
        self.await_ready(&mut running)?;
        Ok(running)
    }

    /// Several at once: a virtual machine takes its time.
    pub fn start_all(setups: &[Setup]) -> Result<Vec<Running>> {
        let mut running = setups.iter().map(Setup::launch).collect::<Result<Vec<_>>>()?;
        setups.iter().zip(&mut running).try_for_each(|(setup, running)| setup.await_ready(running))?;
        Ok(running)
    }

    fn await_ready(&self, running: &mut Running) -> Result<()> {
        running.await_ready().map_err(|why| format!("{why}\n{}", tail(&self.log(), 30)).into())
    }

    /// Starts the server and does not wait: for those who want to kill it while it comes up.
    pub fn launch(&self) -> Result<Running> {
        fs::create_dir_all(self.data())?;
        if let Some(my_id) = self.my_id {
            let (path, text) = (self.data().join("myid"), format!("{my_id}\n"));
            // Its disk may be full by now.
            if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
                fs::write(path, text)?;
            }
        }
        fs::write(self.directory.join("zoo.cfg"), self.config())?;
        self.launch_again()
    }

    /// The same with the configuration it has: a server rewrites it when the members of its ensemble change.
    pub fn launch_again(&self) -> Result<Running> {
        let config = self.directory.join("zoo.cfg");
        self.await_free_port()?;
        let log = File::options().create(true).append(true).open(self.log())?;
        let child = self
            .command(&config)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.kind.name()))?;
        Ok(Running { child, address: self.address() })
    }

    /// The kernel may finish with a killed process's sockets a moment after its end is known.
    fn await_free_port(&self) -> Result<()> {
        let deadline = Instant::now() + PORT_TIMEOUT;
        while TcpStream::connect_timeout(&self.address(), Duration::from_secs(1)).is_ok() {
            if Instant::now() > deadline {
                return Err(format!("{} is taken by another server", self.address()).into());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    fn config(&self) -> String {
        let Setup { home: Home { address, .. }, port, tick_ms, .. } = self;
        let data = self.data().display().to_string();
        let standard = format!(
            "tickTime={tick_ms}\ndataDir={data}\nclientPort={port}\nclientPortAddress={address}\nmaxClientCnxns=0\n\
             4lw.commands.whitelist=*\nadmin.enableServer=false\npreAllocSize=4096\n"
        );
        self.extra.iter().filter(|line| !is_property(line)).fold(standard, |config, line| config + line + "\n")
    }

    fn command(&self, config: &Path) -> Command {
        // TTL nodes are off by default in the reference; the scripted sessions make some.
        let properties = ["-Dzookeeper.extendedTypesEnabled=true"];
        let program = |program: &OsStr| {
            // Each becomes the next.
            let mut words: Vec<OsString> = Vec::new();
            if let Some(namespace) = &self.home.namespace {
                words.extend(["nsenter".into(), format!("--net={NAMESPACES}/{namespace}").into(), "--".into()]);
            }
            if process::exists(DIE_WITH_US[0]) {
                words.extend(DIE_WITH_US.map(OsString::from));
            }
            words.push(program.to_owned());
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            command
        };
        let mut command = match &self.kind {
            Kind::Ringkeeper { binary } => program(binary.as_os_str()),
            Kind::Java { class_path } => {
                let mut java = program(OsStr::new("java"));
                java.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", class_path]);
                java
            }
        };
        command.args(properties).args(self.extra.iter().filter(|line| is_property(line)));
        if let Kind::Java { .. } = self.kind {
            let main = if self.my_id.is_some() { "quorum.QuorumPeerMain" } else { "ZooKeeperServerMain" };
            command.arg(format!("org.apache.zookeeper.server.{main}"));
        }
        command.arg(config);
        command
    }
}

fn is_property(line: &str) -> bool {
    line.starts_with("-D")
}

/// A server process. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    address: SocketAddr,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process as if the power went: no handler runs, nothing is flushed by it.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Stands still, as a process that is swapped out, until `resume`.
    pub fn pause(&self) -> Result<()> {
        self.signal(rustix::process::Signal::STOP)
    }

    pub fn resume(&self) -> Result<()> {
        self.signal(rustix::process::Signal::CONT)
    }

    fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        Ok(rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)?)
    }

    /// Asks the server to leave and waits for it.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.signal(rustix::process::Signal::TERM)?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Err(format!("the server at {} did not leave within {STOP_TIMEOUT:?} when asked", self.address).into())
    }

    /// Whether the process is still there; it may have stopped by itself.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn await_ready(&mut self) -> std::result::Result<(), String> {
        let deadline = Instant::now() + READY_TIMEOUT;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server left at once: {status}"));
            }
            if glance(self.address, "srvr").is_ok_and(|answer| answer.contains("Mode:")) {
                return Ok(());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Err(format!("no answer to srvr at {} within {READY_TIMEOUT:?}", self.address))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Errors mean that it is gone already, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks one four-letter word, once and for all.
pub fn four_letter(address: SocketAddr, word: &str) -> io::Result<String> {
    four_letter_within(WORD_TIMEOUT, address, word)
}

/// The same for those who ask until they like the answer: a server that stands still, or took the connection too early in its
/// life, may keep them waiting for good.
pub fn glance(address: SocketAddr, word: &str) -> io::Result<String> {
    four_letter_within(GLANCE_TIMEOUT, address, word)
}

fn four_letter_within(patience: Duration, address: SocketAddr, word: &str) -> io::Result<String> {
    let mut socket = TcpStream::connect_timeout(&address, patience)?;
    socket.set_read_timeout(Some(patience))?;
    socket.write_all(word.as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The last lines of a log, for a failure's message.
pub fn tail(path: &Path, line_count: usize) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(line_count)..].join("\n")
}
