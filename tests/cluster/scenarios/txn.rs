//! Transactions of scenarios.

use super::calls::{Came, Failure, With, bytes, texts};
use quorate_client::bus::Content;
use quorate_client::cache::CachePolicy;
use quorate_client::queue::NewJob;
use quorate_client::{Client, Transaction, TxnResult};
use serde_json::{Value, json};

pub(super) async fn commit(client: &Client, with: &With) -> Came {
    let mut txn = client.txn();
    for condition in with.get("if").and_then(Value::as_array).into_iter().flatten() {
        txn = when(txn, condition)?;
    }
    for (branch, otherwise) in [("then", false), ("else", true)] {
        for operation in with.get(branch).and_then(Value::as_array).into_iter().flatten() {
            txn = operate(txn, operation, otherwise)?;
        }
    }
    let outcome = txn.commit().await?;
    let succeeded = outcome.succeeded();
    let results = outcome.results.into_iter().map(shown).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({ "succeeded": succeeded, "results": results }))
}

fn when(txn: Transaction, condition: &Value) -> Result<Transaction, Failure> {
    let number = |name: &str| condition[name].as_u64();
    if let Some(key) = condition["kv"].as_str() {
        return Ok(match (number("version"), condition["exists"].as_bool()) {
            (Some(version), _) => txn.when_version(key, version),
            (None, Some(true)) => txn.when_exists(key),
            (None, Some(false)) => txn.when_absent(key),
            (None, None) => txn.when_value(key, bytes(&condition["value"])),
        });
    }
    if let Some(lock) = condition["lock"].as_str() {
        return Ok(txn.when_lock_free(lock));
    }
    if let (Some(queue), Some(jobs)) = (condition["queue"].as_str(), number("jobs_at_most")) {
        return Ok(txn.when_queue_at_most(queue, jobs));
    }
    Err(Failure::Scenario(format!("{condition} is no condition")))
}

/// An operation of one of the two branches.
macro_rules! of {
    ($txn:ident, $otherwise:ident, $then:ident, $or:ident ($($argument:expr),*)) => {
        match $otherwise {
            false => $txn.$then($($argument),*),
            true => $txn.$or($($argument),*),
        }
    };
}

fn operate(txn: Transaction, operation: &Value, otherwise: bool) -> Result<Transaction, Failure> {
    let fields = operation.as_object();
    let named = fields.and_then(|fields| fields.iter().find(|(name, _)| name.contains('_')));
    let Some((kind, what)) = named else {
        return Err(Failure::Scenario(format!("{operation} is no operation")));
    };
    let name = what.as_str().unwrap_or_default();
    let value = || bytes(&operation["value"]);
    Ok(match &**kind {
        "kv_get" => of!(txn, otherwise, get, or_get(name)),
        "kv_set" => of!(txn, otherwise, set, or_set(name, value())),
        "kv_delete" => of!(txn, otherwise, delete, or_delete(name)),
        "kv_increment" => {
            let by = operation["by"].as_i64().unwrap_or(1);
            of!(txn, otherwise, increment, or_increment(name, by))
        }
        "queue_push" => {
            let job = NewJob::new(bytes(&operation["data"])).content_type("application/json");
            of!(txn, otherwise, push, or_push(name, job))
        }
        "cache_set" => {
            of!(txn, otherwise, cache_set, or_cache_set(name, value(), CachePolicy::new()))
        }
        "cache_invalidate_tags" => {
            of!(txn, otherwise, cache_invalidate_tags, or_cache_invalidate_tags(texts(what)))
        }
        "bus_publish" => {
            let content = Content::of_json(&operation["message"])?;
            of!(txn, otherwise, publish, or_publish(name, content))
        }
        _ => return Err(Failure::Scenario(format!("there is no operation {kind}"))),
    })
}

fn shown(result: TxnResult) -> Came {
    Ok(match result {
        TxnResult::Got(Some(entry)) => serde_json::from_slice(&entry.value)?,
        TxnResult::Set { version } => json!({ "version": version }),
        TxnResult::Deleted { existed } | TxnResult::CacheDeleted { existed } => existed.into(),
        TxnResult::Incremented { value, .. } => value.into(),
        TxnResult::IncrementedFloat { value, .. } => value.into(),
        _ => Value::Null,
    })
}
