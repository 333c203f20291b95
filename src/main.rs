//! The server's command line. Spec: operations 1.11 and 1.12. Java: `QuorumPeerMain`.

use std::process::ExitCode;

use clap::Parser;
use ringkeeper::config::{self, Config, ConfigError, LogLevel, Mode, Notice, Source};
use ringkeeper::shell::settings::{ServeError, Settings};
use ringkeeper::shell::{logging, node_host, signals, start};
use tracing::{error, info, warn};

/// A drop-in server for the ZooKeeper protocol.
#[derive(Parser, Debug)]
#[command(name = "ringkeeper", version, about, override_usage = config::USAGE.trim_start_matches("usage: "))]
struct Arguments {
    /// A setting, as Java takes it: -Dname=value
    #[arg(short = 'D', value_name = "name=value")]
    definitions: Vec<String>,

    /// The configuration file (or give it without this option)
    #[arg(long, value_name = "FILE", conflicts_with = "positional")]
    config: Option<String>,

    /// Check the configuration, print what it amounts to, and do not start
    #[arg(long)]
    check: bool,

    /// What to log: error, warn, info, debug, trace, or MODULE=LEVEL,...
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,

    /// CONFIG, or PORT DATADIR [TICKTIME] [MAXCNXNS]; nothing: built-in standalone.cfg
    #[arg(value_name = "CONFIG | PORT DATADIR [TICKTIME] [MAXCNXNS]")]
    positional: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            // --help and --version are no errors; everything else is a bad invocation.
            return ExitCode::from(if error.use_stderr() { config::EXIT_BAD_CONFIG as u8 } else { 0 });
        }
    };
    match configure(&arguments) {
        Ok((config, notices)) if arguments.check => {
            print!("{}", config::check::report(&config, &notices));
            ExitCode::SUCCESS
        }
        Ok((config, notices)) => serve(&arguments, &config, &notices),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(error.exit_code as u8)
        }
    }
}

fn configure(arguments: &Arguments) -> Result<(Config, Vec<Notice>), ConfigError> {
    let source = match &arguments.config {
        Some(file) => Source::File(file.into()),
        None => Source::from_arguments(&arguments.positional)?,
    };
    Config::load(&source, &|name| std::env::var(name).ok(), &arguments.definitions)
}

fn serve(arguments: &Arguments, config: &Config, notices: &[Notice]) -> ExitCode {
    let level = arguments.log.clone().or_else(|| level_of(config));
    let my_id = match config.mode {
        Mode::Standalone { .. } => 0,
        Mode::Ensemble { .. } => config.my_id.unwrap_or(0),
    };
    let log = match logging::start(level.as_deref(), my_id) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("ringkeeper: --log: {error}");
            return ExitCode::from(config::EXIT_BAD_CONFIG as u8);
        }
    };
    for notice in notices {
        match notice.level {
            config::Level::Info => info!("{}", notice.text),
            config::Level::Warn => warn!("{}", notice.text),
            config::Level::Error => error!("{}", notice.text),
        }
    }
    let code = match start_server(config) {
        Ok(()) => 0,
        Err(failure) => {
            error!("{failure}");
            if !tracing::enabled!(tracing::Level::ERROR) {
                logging::say_at_once(format!("ringkeeper: {failure}\n")); // the log is off: nobody would know why
            }
            failure.exit_code()
        }
    };
    drop(log); // writes what is waiting
    ExitCode::from(code)
}

/// The level a configuration asks for; the environment's `RUST_LOG` is more specific and wins.
fn level_of(config: &Config) -> Option<String> {
    if std::env::var_os("RUST_LOG").is_some() {
        return None;
    }
    let level = match config.runtime.log_level? {
        LogLevel::Off => "off",
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    Some(level.to_owned())
}

fn start_server(config: &Config) -> Result<(), ServeError> {
    let settings = Settings::from_config(config)?;
    let stop = signals::StopRequest::default();
    signals::listen(stop.clone()).map_err(ServeError::Signals)?;
    start::serve(settings, node_host::load(config), stop, |_| {}).map(|_| ())
}
