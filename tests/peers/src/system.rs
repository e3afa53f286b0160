//! The systems that are compared: what each can do, what it promises when it answers, and who
//! measures it.

use crate::closed_loop::Figures;
use crate::quorate::Way;
use crate::redis::Setup;
use crate::work::{Job, Work};
use crate::{etcd, nats, quorate, rabbitmq, redis};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// Where programs are that only root has in its path.
const MORE_PATH: &str = "/usr/sbin";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    Etcd,
    Nats,
    Redis,
    Rabbitmq,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Quorate,
    /// Each call on its own instead of in a pipeline.
    QuorateUnary,
    /// Through a node that does not lead.
    QuorateFollower,
    Etcd,
    Nats,
    Redis,
    RedisReplica,
    Rabbitmq,
}

/// What an answer of a system says. Without an entry the work has no such answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Promises {
    /// Whether a write is fsynced on a majority before it is acknowledged.
    pub(crate) fsynced: Option<(bool, &'static str)>,
    /// Whether a read is linearizable.
    pub(crate) linearizable: Option<(bool, &'static str)>,
}

impl System {
    pub(crate) const ALL: [Self; 8] = [
        Self::Quorate,
        Self::QuorateUnary,
        Self::QuorateFollower,
        Self::Etcd,
        Self::Nats,
        Self::Redis,
        Self::RedisReplica,
        Self::Rabbitmq,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Quorate => "quorate",
            Self::QuorateUnary => "quorate unary",
            Self::QuorateFollower => "quorate follower",
            Self::Etcd => "etcd",
            Self::Nats => "nats",
            Self::Redis => "redis",
            Self::RedisReplica => "redis + replica",
            Self::Rabbitmq => "rabbitmq",
        }
    }

    /// Whom it belongs to; nobody's is Quorate.
    pub(crate) fn peer(self) -> Option<Peer> {
        match self {
            Self::Quorate | Self::QuorateUnary | Self::QuorateFollower => None,
            Self::Etcd => Some(Peer::Etcd),
            Self::Nats => Some(Peer::Nats),
            Self::Redis | Self::RedisReplica => Some(Peer::Redis),
            Self::Rabbitmq => Some(Peer::Rabbitmq),
        }
    }

    pub(crate) fn does(self, work: Work) -> bool {
        match self {
            Self::Quorate => true,
            Self::QuorateUnary => matches!(work, Work::Put | Work::Get | Work::Cache),
            Self::QuorateFollower => matches!(work, Work::Put | Work::Get),
            Self::Etcd => matches!(work, Work::Put | Work::Get | Work::Lock | Work::Contended),
            Self::Nats => matches!(work, Work::Put | Work::Get | Work::Queue | Work::Bus),
            Self::Redis => matches!(work, Work::Put | Work::Get | Work::Cache),
            // Its reads are those of the one node.
            Self::RedisReplica => work == Work::Put,
            Self::Rabbitmq => work == Work::Queue,
        }
    }

    pub(crate) fn promises(self, work: Work) -> Promises {
        let write = |fsynced, how| Promises { fsynced: Some((fsynced, how)), linearizable: None };
        let read =
            |linearizable, how| Promises { fsynced: None, linearizable: Some((linearizable, how)) };
        match (self, work) {
            (Self::QuorateFollower, _) => Self::Quorate.promises(work),
            (_, Work::Bus) => write(false, "nothing is stored"),
            (Self::Quorate | Self::QuorateUnary, Work::Get) => read(true, ""),
            (Self::Quorate | Self::QuorateUnary, Work::Cache) => {
                read(false, "what the node has applied")
            }
            (Self::Quorate | Self::QuorateUnary, _) => write(true, ""),
            (Self::Etcd, Work::Get) => read(true, ""),
            (Self::Etcd, _) => write(true, ""),
            (Self::Nats, Work::Get) => read(false, "any replica answers"),
            (Self::Nats, _) => write(false, "in memory of a majority, fsynced within two minutes"),
            (Self::Redis, Work::Get | Work::Cache) => read(true, "there is one copy"),
            (Self::Redis, _) => write(false, "on its one node"),
            (Self::RedisReplica, Work::Get | Work::Cache) => read(true, "of the primary"),
            (Self::RedisReplica, _) => write(false, "on the primary; its replica has received it"),
            (Self::Rabbitmq, _) => write(true, "the push; an ack has no answer"),
        }
    }

    pub(crate) async fn measure(self, programs: &Programs, job: &Job) -> Result<Figures> {
        let program = programs.of(self.peer());
        match self {
            Self::Quorate => quorate::measure(program, job, Way::Pipeline).await,
            Self::QuorateUnary => quorate::measure(program, job, Way::Unary).await,
            Self::QuorateFollower => quorate::measure(program, job, Way::Follower).await,
            Self::Etcd => etcd::measure(program, job).await,
            Self::Nats => nats::measure(program, job).await,
            Self::Redis => redis::measure(program, Setup::OneNode, job).await,
            Self::RedisReplica => redis::measure(program, Setup::Replica, job).await,
            Self::Rabbitmq => rabbitmq::measure(program, job).await,
        }
    }
}

/// Where each of them is.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) quorate: PathBuf,
    pub(crate) etcd: PathBuf,
    pub(crate) nats: PathBuf,
    pub(crate) redis: PathBuf,
    pub(crate) rabbitmq: PathBuf,
}

impl Programs {
    pub(crate) fn of(&self, peer: Option<Peer>) -> &Path {
        match peer {
            None => &self.quorate,
            Some(Peer::Etcd) => &self.etcd,
            Some(Peer::Nats) => &self.nats,
            Some(Peer::Redis) => &self.redis,
            Some(Peer::Rabbitmq) => &self.rabbitmq,
        }
    }

    /// With whole paths, because they are started in other directories; those that are nowhere stay as
    /// they are.
    pub(crate) fn found(mut self) -> Self {
        let all = [
            &mut self.quorate,
            &mut self.etcd,
            &mut self.nats,
            &mut self.redis,
            &mut self.rabbitmq,
        ];
        for program in all {
            if let Some(found) = find(program) {
                *program = found;
            }
        }
        self
    }

    /// What the program says its version is, which it also proves to be there by.
    pub(crate) async fn version(&self, peer: Option<Peer>) -> Result<String> {
        let program = self.of(peer);
        ensure!(program.is_file(), "there is no {}", program.display());
        if peer == Some(Peer::Rabbitmq) {
            return rabbitmq::version(program).await;
        }
        let output = Command::new(program).arg("--version").kill_on_drop(true).output().await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let first = said.lines().next().context("it says no version")?;
        Ok(first.trim().to_owned())
    }
}

fn find(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return std::path::absolute(program).ok();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([PathBuf::from(MORE_PATH)]);
    dirs.map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_on_the_path_and_a_path_is_made_whole() {
        assert!(find(Path::new("sh")).is_some_and(|found| found.is_absolute()));
        assert!(find(Path::new("./sh")).is_some_and(|found| found.is_absolute()));
        assert_eq!(find(Path::new("no-such-program")), None);
    }
}
