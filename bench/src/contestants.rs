//! The servers that `start`, `memory`, `snapshot-tail`, `failover` and `rejoin` put side by side: ringkeeper, and the Java reference beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::server::{Cpus, Launch, Server};
use crate::{BenchError, Doing, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Ringkeeper,
    Java,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ringkeeper => "ringkeeper",
            Kind::Java => "java",
        }
    }

    /// Whether its first answer says nothing about the rest of the tree.
    pub fn serves_before_all_is_in_memory(self) -> bool {
        self == Kind::Ringkeeper
    }

    /// Where it keeps its snapshots, below its data directory.
    pub fn directory(self) -> &'static str {
        match self {
            Kind::Ringkeeper => "ringkeeper-1",
            Kind::Java => "version-2",
        }
    }
}

/// What ringkeeper logs, at `info`, when the last node of the snapshot it started from is in memory.
const IN_MEMORY: &str = " are in memory, ";

/// For a server that was started on a snapshot. Returns how long that took since its process was asked for.
pub fn wait_until_in_memory(server: &Server, limit: Duration) -> Result<Duration> {
    while !server.log().contains(IN_MEMORY) {
        let silent = BenchError::new(format!("its log has no line with {IN_MEMORY:?} (does it log at info?)"));
        server.may_still_come(limit, &silent)?;
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(server.began.elapsed())
}

#[derive(Args, Clone, Debug)]
pub struct Contestants {
    /// Servers, in the order in which they take turns.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ringkeeper,java")]
    pub servers: Vec<Kind>,
    /// Command of ringkeeper, run by `sh -c 'exec ...'`; {config} is its zoo.cfg. Without it: the program beside this one.
    #[arg(long, value_name = "COMMAND")]
    ringkeeper: Option<String>,
    /// Command of the Java server; {heap} is what --heap says. Without it: the jars that `cargo dev reference` fetches.
    #[arg(long, value_name = "COMMAND")]
    java: Option<String>,
    /// Java's -Xmx. Without it: 1 GiB and 700 bytes a znode, in whole GiB.
    #[arg(long)]
    heap: Option<String>,
    /// Further lines of ringkeeper's zoo.cfg.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Port of the servers, which run one at a time.
    #[arg(long, default_value_t = 12181)]
    port: u16,
    /// CPU of the generator.
    #[arg(long, default_value_t = 0)]
    pub cpu: usize,
    /// Priority of generator and servers.
    #[arg(long, allow_hyphen_values = true)]
    pub nice: Option<i32>,
    /// Where data directories are made. Choose the disk you mean to measure.
    #[arg(long, default_value = ".")]
    data: PathBuf,
}

impl Contestants {
    pub fn base(&self) -> Result<PathBuf> {
        self.data.canonicalize().doing(self.data.display())
    }

    /// The command of a server that has to hold so many znodes.
    pub fn command(&self, kind: Kind, nodes: u64) -> Result<String> {
        match kind {
            Kind::Ringkeeper => self.ringkeeper.clone().map_or_else(ringkeeper_beside_this_program, Ok),
            Kind::Java => {
                let command = self.java.clone().map_or_else(java_of_the_reference, Ok)?;
                Ok(command.replace("{heap}", &self.heap.clone().unwrap_or_else(|| heap(nodes))))
            }
        }
    }

    pub fn launch(&self, kind: Kind, nodes: u64, dir: &Path, cpus: &Cpus, settings: &[String]) -> Result<Launch> {
        let own: &[String] = if kind == Kind::Ringkeeper { &self.set } else { &[] };
        Ok(Launch {
            name: kind.name().to_owned(),
            command: self.command(kind, nodes)?,
            port: self.port,
            dir: dir.to_owned(),
            cpus: cpus.0.clone(),
            settings: [settings, own].concat(),
            my_id: None,
        })
    }
}

/// `target/release/ringkeeper` for `target/release/ringkeeper-bench`.
pub fn ringkeeper_beside_this_program() -> Result<String> {
    let program = here()?.join("ringkeeper");
    match program.is_file() {
        true => Ok(format!("'{}' {{config}}", program.display())),
        false => Err(BenchError::new(format!(
            "{} is not there: build it (cargo build --release), or name a command with --ringkeeper",
            program.display()
        ))),
    }
}

fn java_of_the_reference() -> Result<String> {
    let jars = here()?.parent().map(|target| target.join("clients/reference")).unwrap_or_default();
    match jars.is_dir() {
        // Not ZooKeeperServerMain: that one never purges.
        true => Ok(format!(
            "java -Xmx{{heap}} -cp '{}/*' org.apache.zookeeper.server.quorum.QuorumPeerMain {{config}}",
            jars.display()
        )),
        false => Err(BenchError::new(format!(
            "no Java reference in {}: fetch it with `cargo dev reference`, name a command with --java, or leave it out with \
             --servers ringkeeper",
            jars.display()
        ))),
    }
}

fn here() -> Result<PathBuf> {
    let program = std::env::current_exe().doing("finding this program's own file")?;
    Ok(program.parent().map(Path::to_owned).unwrap_or_default())
}

/// A million znodes of 100 bytes are 434 MiB of live heap in Java.
fn heap(nodes: u64) -> String {
    format!("{}g", ((1 << 30) + nodes * 700).div_ceil(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_gets_a_heap_for_its_tree() {
        assert_eq!(heap(1_000), "2g");
        assert_eq!(heap(1_000_000), "2g");
        assert_eq!(heap(10_000_000), "8g");
    }
}
