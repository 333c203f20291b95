//! A server that a run starts, measures and ends: pinned, with a zoo.cfg of the run's making, its output in `server.log`.
//!
//!   `dir/`   zoo.cfg   server.log   data/
//!
//! A server that is dropped is killed, and dies with this process whatever happens; its directory stays until the run
//! removes it, so that a failure can be looked into.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::client::{Client, REPLY_TIMEOUT};
use crate::{BenchError, Doing, Result, Target};

const STOP_LIMIT: Duration = Duration::from_secs(120);
const PATIENCE_MIN: Duration = Duration::from_millis(50);
const POLL_EVERY: Duration = Duration::from_millis(20);

/// What to start, and where.
#[derive(Clone, Debug)]
pub struct Launch {
    pub name: String,
    /// Run by `sh -c 'exec ...'`. Replaced in it: {port}, {dir} (the data directory) and {config}.
    pub command: String,
    pub port: u16,
    pub dir: PathBuf,
    /// CPUs the process may use.
    pub cpus: Vec<usize>,
    /// Further lines of its zoo.cfg.
    pub settings: Vec<String>,
    /// The number in `myid`, of a member of an ensemble.
    pub my_id: Option<usize>,
}

impl Launch {
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Starts the process on whatever data is there. It may take a while until it serves.
    pub fn start(&self) -> Result<Server> {
        let data = self.data();
        fs::create_dir_all(&data).doing(data.display())?;
        if let Some(my_id) = self.my_id {
            fs::write(data.join("myid"), format!("{my_id}\n")).doing("myid")?;
        }
        let config = self.dir.join("zoo.cfg");
        fs::write(&config, self.zoo_cfg()).doing(config.display())?;
        let command = self
            .command
            .replace("{port}", &self.port.to_string())
            .replace("{dir}", &data.to_string_lossy())
            .replace("{config}", &config.to_string_lossy());
        // Else the run might be about somebody else's server.
        TcpListener::bind(self.address()).doing(format_args!("port {} for {}", self.port, self.name))?;
        let log = File::create(self.log_file()).doing(self.dir.display())?;
        let myself = std::env::current_exe().doing("finding this program's own file")?;
        let cpus: Vec<String> = self.cpus.iter().map(usize::to_string).collect();
        let began = Instant::now();
        let child = Command::new(myself)
            .args(["pinned", "--cpus", &cpus.join(","), "--", "sh", "-c", &format!("exec {command}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().doing("server.log")?)
            .stderr(log)
            .spawn()
            .doing(&command)?;
        Ok(Server { launch: self.clone(), child, began })
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    fn zoo_cfg(&self) -> String {
        let standard = format!(
            "tickTime=2000\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n\
             admin.enableServer=false\n4lw.commands.whitelist=*\n",
            self.data().display(),
            self.port
        );
        self.settings.iter().fold(standard, |config, line| config + line + "\n")
    }
}

/// A running server.
pub struct Server {
    launch: Launch,
    child: Child,
    /// When its process was asked for.
    pub began: Instant,
}

impl Server {
    pub fn name(&self) -> &str {
        &self.launch.name
    }

    pub fn address(&self) -> SocketAddr {
        self.launch.address()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed in this life.
    pub fn log(&self) -> String {
        fs::read_to_string(self.launch.log_file()).unwrap_or_default()
    }

    /// What loads are aimed at.
    pub fn target(&self) -> Target {
        Server::target_of(&[self])
    }

    /// The same for servers that are one service.
    pub fn target_of(servers: &[&Server]) -> Target {
        Target {
            servers: servers.iter().map(|server| server.address()).collect(),
            server_pids: servers.iter().map(|server| server.pid()).collect(),
            label: servers[0].launch.name.clone(),
            root: format!("/ringkeeper-bench-{}", std::process::id()),
            keep: false,
            disk: None,
        }
    }

    /// Until a session is granted.
    pub fn wait_until_serving(&self, limit: Duration) -> Result<()> {
        loop {
            match Client::connect_within(self.address(), self.patience()) {
                Ok(client) => {
                    client.set_reply_timeout(REPLY_TIMEOUT)?;
                    return client.close();
                }
                Err(cause) => self.may_still_come(limit, &cause)?,
            }
            std::thread::sleep(POLL_EVERY);
        }
    }

    /// How long to wait for an answer of a server that may be coming up. A server that listens before it serves (Java does)
    /// leaves connections that came too early without an answer for good; so they are given up, and tried again at once.
    pub fn patience(&self) -> Duration {
        (self.began.elapsed() / 20).max(PATIENCE_MIN)
    }

    /// After a failed attempt: an error when there is no use in another one.
    pub fn may_still_come(&self, limit: Duration, cause: &BenchError) -> Result<()> {
        if self.began.elapsed() < limit && !self.has_ended() {
            return Ok(());
        }
        let log = self.log();
        let tail: Vec<&str> = log.lines().rev().take(15).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        Err(BenchError::new(format!("{} does not serve: {cause}\n{tail}", self.launch.name)))
    }

    /// Whether the process is gone or a zombie.
    fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with(['Z', 'X']))
    }

    /// Asks the process to end in order.
    pub fn ask_to_stop(&self) -> Result<()> {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM)
            .doing(format_args!("ending {}", self.launch.name))
    }

    /// Ends the process in order.
    pub fn stop(mut self) -> Result<()> {
        self.ask_to_stop()?;
        let name = &self.launch.name;
        let start = Instant::now();
        while self.child.try_wait().doing("waiting for a server to end")?.is_none() {
            if start.elapsed() > STOP_LIMIT {
                return Err(BenchError::new(format!("{name} did not end within {STOP_LIMIT:?} of SIGTERM")));
            }
            std::thread::sleep(POLL_EVERY);
        }
        Ok(())
    }

    /// Ends the process as a crash would.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().doing(format_args!("killing {}", self.launch.name))?;
        self.child.wait().doing("waiting for a killed server").map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// `1` or `0,1`: the CPUs a server may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus(pub Vec<usize>);

impl Cpus {
    /// Threads and processes that it starts are pinned with it.
    pub fn pin_this_thread(&self) -> Result<()> {
        let mut set = rustix::thread::CpuSet::new();
        for cpu in &self.0 {
            if *cpu >= rustix::thread::CpuSet::MAX_CPU {
                return Err(BenchError::new(format!("there is no CPU {cpu}")));
            }
            set.set(*cpu);
        }
        rustix::thread::sched_setaffinity(None, &set).doing(format_args!("pinning to CPU {self}"))
    }
}

impl std::str::FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Cpus, String> {
        let cpus = text.split(',').map(|cpu| cpu.trim().parse().map_err(|_| format!("{cpu:?} is no CPU's number")));
        cpus.collect::<std::result::Result<_, _>>().map(Cpus)
    }
}

impl std::fmt::Display for Cpus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cpus: Vec<String> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&cpus.join(","))
    }
}
