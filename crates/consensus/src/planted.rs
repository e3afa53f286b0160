//! The planted fault [`Fault::TransactionInTwoBatches`]: what is written to the state goes there in two
//! batches, and whoever looks between them sees half of it. Never in a release.

use quorate_state::planted::{Fault, is_planted};
use quorate_state::{Batch, Command, Read, TableError, Txn};
use quorate_storage::state::{AppliedMeta, StateStore};
use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

/// How long only the first half is there: long enough to be looked at.
const BETWEEN: Duration = Duration::from_millis(20);

type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The rows that entries change, and whether a transaction is among them.
#[derive(Default)]
pub(crate) struct Halves {
    rows: Rows,
    has_transaction: bool,
}

impl Halves {
    /// The tables as the machine is to see them; what it writes is noted.
    pub(crate) fn over<'a>(&'a mut self, txn: &'a mut dyn Txn, batch: &Batch) -> Noted<'a> {
        let mut commands = batch.commands.iter().map(|envelope| &envelope.command);
        self.has_transaction |= commands.any(|command| matches!(command, Command::Transaction(_)));
        Noted { txn, rows: &mut self.rows }
    }

    /// Makes the second half of the rows visible, and a while later the others with how far that is:
    /// among those are the machine's own numbers, so that a crash in between is no reason to stop.
    pub(crate) async fn commit(
        mut self,
        state: &mut dyn StateStore,
        before: &AppliedMeta,
        after: &AppliedMeta,
    ) -> io::Result<()> {
        if self.has_transaction {
            let middle = self.rows.keys().nth(self.rows.len() / 2).cloned().unwrap_or_default();
            let later = self.rows.split_off(&middle);
            write(state, later, before)?;
            tokio::time::sleep(BETWEEN).await;
        }
        write(state, self.rows, after)
    }
}

fn write(state: &mut dyn StateStore, rows: Rows, meta: &AppliedMeta) -> io::Result<()> {
    let mut txn = state.begin();
    for (key, value) in rows {
        match value {
            Some(value) => txn.put(&key, &value),
            None => txn.delete(&key),
        }
    }
    txn.commit(meta).map_err(io::Error::other)
}

/// Tables whose changes are noted.
pub(crate) struct Noted<'a> {
    txn: &'a mut dyn Txn,
    rows: &'a mut Rows,
}

impl Noted<'_> {
    fn note(&mut self, key: &[u8], value: Option<&[u8]>) {
        if is_planted(Fault::TransactionInTwoBatches) {
            self.rows.insert(key.to_owned(), value.map(<[u8]>::to_owned));
        }
    }
}

impl Read for Noted<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        self.txn.get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TableError> {
        self.txn.scan(from, to, visit)
    }
}

impl Txn for Noted<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.note(key, Some(value));
        self.txn.put(key, value);
    }

    fn delete(&mut self, key: &[u8]) {
        self.note(key, None);
        self.txn.delete(key);
    }
}
