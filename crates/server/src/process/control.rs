//! What a test does to its node, by lines on stdin.

use super::{Error, TestControl};
use crate::config::Config;
use quorate_consensus::Replica;
use quorate_consensus::io::Cuts;
use quorate_state::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read as _};
use std::sync::{Arc, OnceLock};

/// No line is longer: it names each node once.
const LINE_BYTES_MAX: u64 = 4 << 10;

/// Obeys them.
pub(super) struct Control {
    cuts: Cuts,
    founders: BTreeMap<NodeId, String>,
    /// Knows who else is in the cluster, once it is there.
    replica: Arc<OnceLock<Replica>>,
    told: Box<dyn FnMut(Result<(), String>) + Send>,
}

impl Control {
    /// Of a node that other machines do not reach.
    pub(super) fn new(config: &Config, test: TestControl) -> Result<Self, Error> {
        let listens = [&config.client_listen, &config.peer_listen, &config.http_listen];
        if let Some(exposed) = listens.into_iter().find(|address| !address.is_loopback()) {
            return Err(Error::Listen(format!(
                "--test-control is for nodes that other machines do not reach, and {exposed} is no \
                 loopback address"
            )));
        }
        let founders = config.initial_cluster.iter().map(|(id, at)| (*id, at.to_string()));
        let control = Self {
            cuts: Cuts::default(),
            founders: founders.collect(),
            replica: Arc::default(),
            told: test.told,
        };
        control.cut(&test.cut).map_err(Error::Listen)?;
        Ok(control)
    }

    pub(super) fn cuts(&self) -> &Cuts {
        &self.cuts
    }

    /// Where the replica belongs when there is one.
    pub(super) fn replica(&self) -> Arc<OnceLock<Replica>> {
        Arc::clone(&self.replica)
    }

    /// Obeys line by line until there are no more.
    pub(super) fn obey_all(&mut self, lines: &mut dyn BufRead) {
        loop {
            let mut line = String::new();
            match (&mut *lines).take(LINE_BYTES_MAX).read_line(&mut line) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
            let done = self.obey(&line);
            (self.told)(done);
        }
    }

    fn obey(&self, line: &str) -> Result<(), String> {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("heal") => self.cut(&BTreeSet::new()),
            Some("cut") => {
                let ids = words.map(|word| {
                    word.parse().map(NodeId).map_err(|_| format!("{word:?} is no node id"))
                });
                self.cut(&ids.collect::<Result<_, _>>()?)
            }
            _ => Err(format!("{:?} is neither `cut ID...` nor `heal`", line.trim_end())),
        }
    }

    fn cut(&self, ids: &BTreeSet<NodeId>) -> Result<(), String> {
        let members = self.replica.get().map(Replica::membership);
        let addresses = ids.iter().map(|id| {
            let member = members.as_ref().and_then(|members| members.nodes.get(id));
            let member = member.map(|member| member.peer_addr.clone());
            let known = member.or_else(|| self.founders.get(id).cloned());
            known.ok_or_else(|| format!("the cluster has no node {id}"))
        });
        self.cuts.set(addresses.collect::<Result<Vec<_>, _>>()?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn config(flags: &[(&'static str, &str)]) -> Config {
        let flags: Vec<_> = flags.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        Config::load(&flags, [], None).unwrap()
    }

    const THREE: (&str, &str) = ("initial_cluster", "1=127.0.0.1:1,2=127.0.0.1:2,3=127.0.0.1:3");

    fn control(told: mpsc::Sender<Result<(), String>>, cut: &[u64]) -> Result<Control, Error> {
        let cut = cut.iter().copied().map(NodeId).collect();
        let told = Box::new(move |done| told.send(done).unwrap());
        Control::new(&config(&[("data_dir", "/x"), THREE]), TestControl { cut, told })
    }

    #[test]
    fn lines_are_obeyed_and_what_is_wrong_is_said() {
        let (told, done) = mpsc::channel();
        let mut control = control(told, &[]).unwrap();
        let mut lines = &b"cut 2 3\nheal\ncut 7\ncut x\n\nnonsense"[..];
        control.obey_all(&mut lines);
        drop(control);
        let wrong = |text: &str| Err(text.to_owned());
        let expected = [
            Ok(()),
            Ok(()),
            wrong("the cluster has no node 7"),
            wrong("\"x\" is no node id"),
            wrong("\"\" is neither `cut ID...` nor `heal`"),
            wrong("\"nonsense\" is neither `cut ID...` nor `heal`"),
        ];
        assert_eq!(done.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn nodes_that_other_machines_reach_take_no_commands() {
        let (told, _done) = mpsc::channel();
        assert!(control(told.clone(), &[9]).is_err(), "there is no node 9");
        assert!(control(told, &[2]).is_ok());
        let flags = [
            ("data_dir", "/x"),
            ("http_listen", "0.0.0.0:8813"),
            ("http_advertise", "10.0.0.1:8813"),
            ("insecure", "true"),
        ];
        let (cut, told) = (BTreeSet::new(), Box::new(|_| {}));
        let refused = Control::new(&config(&flags), TestControl { cut, told }).err().unwrap();
        assert!(refused.to_string().contains("0.0.0.0:8813"), "{refused}");
    }
}
