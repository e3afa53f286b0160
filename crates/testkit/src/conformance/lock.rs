//! Locks: one holder, waiting, leases, tokens.

use super::checks;
use super::stage::{Stage, eventually, failed, not_before, within};
use anyhow::{Context as _, Result, ensure};
use quorate_client::broker::{Broker, HeldLock, Lock, Promise, SetOptions};
use quorate_client::{Error, LockGuard};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

checks!("lock":
    one_holds_it,
    names_are_apart,
    who_waits_gets_it,
    waiting_ends,
    it_is_renewed_by_itself,
    what_is_left_ends_with_its_ttl,
    dropping_gives_it_back,
    losing_it_is_told,
    it_goes_by_the_order_of_the_requests,
    tokens_grow,
    guarded_writes_of_old_holders_are_refused,
);

const TTL: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(25);

async fn take(broker: &Arc<dyn Broker>, name: &str) -> Result<Box<dyn HeldLock>, Error> {
    broker.lock_acquire(name, TTL, Duration::ZERO).await
}

fn is_not_acquired(error: &Error) -> bool {
    matches!(error, Error::NotAcquired { .. })
}

async fn one_holds_it(stage: Stage) -> Result<()> {
    let held = take(&stage.one, "l").await?;
    ensure!(held.name() == "l", "it is called {:?}", held.name());
    ensure!(!held.is_lost(), "it was taken, and is lost");
    failed("taking what another holds", take(&stage.other, "l").await, is_not_acquired)?;
    failed("taking it twice", take(&stage.one, "l").await, is_not_acquired)?;
    let lock = Lock::new(Arc::clone(&stage.other));
    ensure!(lock.try_acquire("l").await?.is_none(), "trying got what another holds");
    ensure!(lock.is_held("l").await?, "it is not held, they say");
    ensure!(held.release().await?, "giving it back says that it was lost");
    ensure!(!lock.is_held("l").await?, "it was given back, and is held");
    let held = take(&stage.other, "l").await.context("after it was given back")?;
    ensure!(held.release().await?, "giving it back says that it was lost");
    Ok(())
}

async fn names_are_apart(stage: Stage) -> Result<()> {
    let _one = take(&stage.one, "process:1").await?;
    let _two = take(&stage.one, "process:2").await?;
    let _other = take(&stage.other, "process:*").await?;
    Ok(())
}

async fn who_waits_gets_it(stage: Stage) -> Result<()> {
    let held = take(&stage.one, "l").await?;
    let mut waiting = stage.other.lock_acquire("l", TTL, LONG);
    tokio::select! {
        biased;
        got = &mut waiting => {
            failed("waiting for what another holds", got, |_| false)?;
        }
        // It asks, and is looked at before and after that another one asks.
        tried = take(&stage.one, "l") => {
            failed("trying what another holds", tried, is_not_acquired)?;
        }
    }
    ensure!(held.release().await?, "giving it back says that it was lost");
    let got = within("the lock", waiting).await??;
    ensure!(!got.is_lost(), "it was waited for, and is lost");
    failed("taking what another waited for", take(&stage.one, "l").await, is_not_acquired)?;
    ensure!(got.release().await?, "giving it back says that it was lost");
    Ok(())
}

async fn waiting_ends(stage: Stage) -> Result<()> {
    let held = take(&stage.one, "l").await?;
    let (begun, wait) = (Instant::now(), Duration::from_millis(500));
    let waited = stage.other.lock_acquire("l", TTL, wait);
    let waited = within("the end of a wait", waited).await?;
    let error = failed("waiting in vain", waited, is_not_acquired)?;
    not_before("a wait was over", begun, wait)?;
    let text = error.message();
    ensure!(text.contains("timeout"), "the word timeout is not in its text: {text:?}");
    // Who does not wait any more is not given it.
    ensure!(held.release().await?, "giving it back says that it was lost");
    let held = take(&stage.one, "l").await.context("after somebody had waited in vain")?;
    ensure!(held.release().await?, "giving it back says that it was lost");
    Ok(())
}

async fn it_is_renewed_by_itself(stage: Stage) -> Result<()> {
    let ttl = Duration::from_millis(600);
    let held = stage.one.lock_acquire("l", ttl, Duration::ZERO).await?;
    let waited = stage.other.lock_acquire("l", ttl, 4 * ttl).await;
    failed("waiting for four times the ttl", waited, is_not_acquired)?;
    ensure!(!held.is_lost(), "it says that it is lost");
    ensure!(held.release().await?, "giving it back says that it was lost");
    Ok(())
}

async fn what_is_left_ends_with_its_ttl(stage: Stage) -> Result<()> {
    let ttl = Duration::from_secs(1);
    let held = stage.one.lock_acquire("l", ttl, Duration::ZERO).await?;
    let left = Instant::now();
    held.leave();
    failed("taking what was just left", take(&stage.other, "l").await, is_not_acquired)?;
    let got = within("the lock", stage.other.lock_acquire("l", ttl, LONG)).await??;
    // It was renewed a third of its ttl before, at most; and it may be renewed as it is left.
    not_before("it was given to another", left, ttl * 2 / 3)?;
    ensure!(got.release().await?, "giving it back says that it was lost");
    Ok(())
}

async fn dropping_gives_it_back(stage: Stage) -> Result<()> {
    let ttl = Duration::from_secs(60);
    let held = stage.one.lock_acquire("l", ttl, Duration::ZERO).await?;
    drop(held);
    let got = within("the lock", stage.other.lock_acquire("l", ttl, LONG)).await?;
    got.context("after it was dropped")?.release().await?;
    Ok(())
}

async fn losing_it_is_told(stage: Stage) -> Result<()> {
    let held = stage.one.lock_acquire("l", Duration::from_secs(3), Duration::ZERO).await?;
    ensure!(stage.other.lock_force_release("l").await?, "nobody held it, they say");
    ensure!(!stage.other.lock_force_release("l").await?, "somebody holds it still, they say");
    let new = take(&stage.other, "l").await.context("after it was taken from its holder")?;
    within("that it is lost", held.lost()).await?;
    ensure!(held.is_lost(), "its holder was told, and says that it is not lost");
    ensure!(!held.release().await?, "giving back what is lost says that it was held");
    ensure!(new.release().await?, "an old holder gave back what is another's by now");
    Ok(())
}

async fn it_goes_by_the_order_of_the_requests(stage: Stage) -> Result<()> {
    const WAITERS: u64 = 5;
    stage.one.keeps(Promise::FairLocks)?;
    let held = take(&stage.one, "l").await?;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..WAITERS {
        let broker = Arc::clone(if number % 2 == 0 { &stage.one } else { &stage.other });
        let order = Arc::clone(&order);
        tasks.push(tokio::spawn(async move {
            let held = broker.lock_acquire("l", TTL, LONG).await?;
            order.lock().unwrap_or_else(PoisonError::into_inner).push(number);
            held.release().await
        }));
        let waits = || async {
            let waiting = stage.one.lock_inspect("l").await?.waiting;
            Ok(waiting.context("it does not say how many wait")? == number + 1)
        };
        eventually("that one more waits", waits).await?;
    }
    ensure!(held.release().await?, "giving it back says that it was lost");
    for task in tasks {
        ensure!(within("a lock", task).await???, "giving it back says that it was lost");
    }
    let order = order.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let expected: Vec<u64> = (0..WAITERS).collect();
    ensure!(order == expected, "it was granted in the order {order:?}");
    Ok(())
}

async fn tokens_grow(stage: Stage) -> Result<()> {
    let mut newest = 0;
    for number in 0..10 {
        let broker = if number % 2 == 0 { &stage.one } else { &stage.other };
        let held = take(broker, "l").await?;
        let token = held.fencing_token()?;
        ensure!(token > newest, "token {token} came after {newest}");
        newest = token;
        held.release().await?;
    }
    Ok(())
}

async fn guarded_writes_of_old_holders_are_refused(stage: Stage) -> Result<()> {
    let held = take(&stage.one, "l").await?;
    let guard =
        LockGuard { name: "l".to_owned(), fencing_token: held.fencing_token().unwrap_or(1) };
    let set = async |value: &'static str| {
        stage.one.kv_set(b"k", value.into(), SetOptions::new().guard(guard.clone())).await
    };
    set("1").await?;
    ensure!(held.release().await?, "giving it back says that it was lost");
    let _other = take(&stage.other, "l").await?;
    let is_lost = |error: &Error| matches!(error, Error::LockLost { .. });
    failed("a write of an old holder", set("2").await, is_lost)?;
    let entry = stage.one.kv_get(b"k").await?.map(|entry| entry.value);
    ensure!(entry.as_deref() == Some(b"1"), "a refused write left {entry:?}");
    Ok(())
}
