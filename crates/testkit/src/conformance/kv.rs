//! Key-value: values, ttls, conditions, numbers, lists, watches.

use super::checks;
use super::stage::{
    Stage, eventually, failed, is_not_the_type, not_before, payloads, shown, within,
};
use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use futures::future::try_join_all;
use quorate_client::Error;
use quorate_client::broker::{KeyValue, KvChange, SetOptions};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

checks!("kv":
    what_is_set_is_read,
    reads_see_what_others_wrote,
    ttl_ends,
    setting_again_ends_the_old_ttl,
    set_if_absent,
    set_if_version,
    increments_are_atomic,
    increments_keep_the_ttl,
    what_is_no_number_is_not_incremented,
    lists_by_a_pattern,
    lists_page_by_page,
    watches_see_every_change,
    keys_and_values_are_bytes,
    another_type_is_an_error,
);

const TTL: Duration = Duration::from_millis(400);

async fn what_is_set_is_read(stage: Stage) -> Result<()> {
    let kv = &stage.one;
    ensure!(kv.kv_get(b"k").await?.is_none(), "a key that nobody set has a value");
    kv.kv_set(b"k", "v".into(), SetOptions::new()).await?;
    let entry = kv.kv_get(b"k").await?.context("what was set is not there")?;
    ensure!(entry.key == "k" && entry.value == "v", "it was set to v, and reads {entry:?}");
    // An empty value is a value.
    kv.kv_set(b"k", "".into(), SetOptions::new()).await?;
    let entry = kv.kv_get(b"k").await?.context("an empty value is not there")?;
    ensure!(entry.value.is_empty(), "it was set to nothing, and reads {entry:?}");
    ensure!(kv.kv_delete(b"k").await?, "deleting it says that it was not there");
    ensure!(kv.kv_get(b"k").await?.is_none(), "it was deleted, and is there");
    ensure!(!kv.kv_delete(b"k").await?, "deleting it again says that it was there");
    Ok(())
}

async fn reads_see_what_others_wrote(stage: Stage) -> Result<()> {
    for number in 0..50 {
        let value = number.to_string();
        let (writer, reader) = match number % 2 {
            0 => (&stage.one, &stage.other),
            _ => (&stage.other, &stage.one),
        };
        writer.kv_set(b"k", value.clone().into(), SetOptions::new()).await?;
        let read = reader.kv_get(b"k").await?.map(|entry| entry.value);
        ensure!(read.as_deref() == Some(value.as_bytes()), "{read:?} was read after {value}");
    }
    Ok(())
}

async fn ttl_ends(stage: Stage) -> Result<()> {
    let begun = Instant::now();
    stage.one.kv_set(b"k", "v".into(), SetOptions::new().ttl(TTL)).await?;
    stage.one.kv_set(b"for-ever", "v".into(), SetOptions::new()).await?;
    let gone = || async { Ok(stage.one.kv_get(b"k").await?.is_none()) };
    eventually("that its ttl is over", gone).await?;
    not_before("it was gone", begun, TTL)?;
    ensure!(stage.one.kv_get(b"for-ever").await?.is_some(), "one without a ttl is gone");
    Ok(())
}

async fn setting_again_ends_the_old_ttl(stage: Stage) -> Result<()> {
    stage.one.kv_set(b"k", "1".into(), SetOptions::new().ttl(TTL)).await?;
    stage.one.kv_set(b"k", "2".into(), SetOptions::new()).await?;
    stage.one.kv_set(b"later", "v".into(), SetOptions::new().ttl(2 * TTL)).await?;
    let gone = || async { Ok(stage.one.kv_get(b"later").await?.is_none()) };
    eventually("that a longer ttl is over", gone).await?;
    let entry = stage.one.kv_get(b"k").await?.map(|entry| entry.value);
    ensure!(entry.as_deref() == Some(b"2"), "the ttl of an old value ended the new one: {entry:?}");
    Ok(())
}

fn is_condition_failed(error: &Error) -> bool {
    matches!(error, Error::ConditionFailed { .. })
}

async fn set_if_absent(stage: Stage) -> Result<()> {
    let set = async |value: &'static str| {
        stage.one.kv_set(b"k", value.into(), SetOptions::new().if_absent()).await
    };
    set("1").await?;
    failed("setting what is there", set("2").await, is_condition_failed)?;
    let entry = stage.other.kv_get(b"k").await?.map(|entry| entry.value);
    ensure!(entry.as_deref() == Some(b"1"), "a refused write left {entry:?}");
    stage.other.kv_delete(b"k").await?;
    set("3").await?;
    // Of many at once one is first.
    let contending = (0..20).map(|number: u32| {
        let broker = if number.is_multiple_of(2) { &stage.one } else { &stage.other };
        broker.kv_set(b"first", number.to_string().into(), SetOptions::new().if_absent())
    });
    let answers = futures::future::join_all(contending).await;
    let won = answers.iter().filter(|answer| answer.is_ok()).count();
    ensure!(won == 1, "{won} of 20 were the first");
    Ok(())
}

async fn set_if_version(stage: Stage) -> Result<()> {
    let set = async |value: &'static str, version: u64| {
        stage.one.kv_set(b"k", value.into(), SetOptions::new().if_version(version)).await
    };
    // Whoever has no versions is asked before anything depends on one.
    failed("a version that nothing has", set("0", 7).await, is_condition_failed)?;
    let first = stage.one.kv_set(b"k", "1".into(), SetOptions::new()).await?;
    let first = first.context("a write answers no version")?;
    let second = set("2", first).await?.context("a write answers no version")?;
    ensure!(second > first, "version {second} came after {first}");
    let error = failed("an old version", set("3", first).await, is_condition_failed)?;
    match error {
        Error::ConditionFailed { version, .. } if version == Some(second) => {}
        error => bail!("a refused write does not say that it is at {second}: {error:?}"),
    }
    let entry = stage.other.kv_get(b"k").await?.context("it is gone")?;
    ensure!(entry.value == "2" && entry.version == Some(second), "a refused write left {entry:?}");
    Ok(())
}

async fn increments_are_atomic(stage: Stage) -> Result<()> {
    const TASKS: i64 = 8;
    const EACH: i64 = 25;
    let adding = (0..TASKS).map(|task| {
        let broker = if task % 2 == 0 { &stage.one } else { &stage.other };
        async move {
            let mut sums = Vec::new();
            for _ in 0..EACH {
                sums.push(broker.kv_increment(b"n", 1).await?);
            }
            Ok::<_, Error>(sums)
        }
    });
    let mut sums: Vec<i64> = try_join_all(adding).await?.into_iter().flatten().collect();
    sums.sort_unstable();
    let expected: Vec<i64> = (1..=TASKS * EACH).collect();
    ensure!(sums == expected, "{} increments by 1 answered {sums:?}", TASKS * EACH);
    let down = stage.one.kv_increment(b"n", -TASKS * EACH - 5).await?;
    ensure!(down == -5, "it went down to {down} and not -5");
    let entry = stage.other.kv_get(b"n").await?.map(|entry| entry.value);
    ensure!(entry.as_deref() == Some(b"-5"), "a number of -5 reads {entry:?}");
    Ok(())
}

async fn increments_keep_the_ttl(stage: Stage) -> Result<()> {
    stage.one.kv_set(b"n", "5".into(), SetOptions::new().ttl(TTL)).await?;
    let sum = stage.one.kv_increment(b"n", 1).await?;
    ensure!(sum == 6, "5 and 1 is {sum}");
    let gone = || async { Ok(stage.one.kv_get(b"n").await?.is_none()) };
    eventually("that the ttl of a number is over", gone).await?;
    let sum = stage.one.kv_increment(b"n", 1).await?;
    ensure!(sum == 1, "a number whose ttl was over went on at {sum}");
    Ok(())
}

async fn what_is_no_number_is_not_incremented(stage: Stage) -> Result<()> {
    stage.one.kv_set(b"k", "text".into(), SetOptions::new()).await?;
    let refused = |error: &Error| matches!(error, Error::InvalidArgument { .. });
    failed("adding to a text", stage.one.kv_increment(b"k", 1).await, refused)?;
    stage.one.kv_set(b"k", i64::MAX.to_string().into(), SetOptions::new()).await?;
    failed("adding beyond 64 bits", stage.one.kv_increment(b"k", 1).await, refused)?;
    let entry = stage.one.kv_get(b"k").await?.map(|entry| entry.value);
    let kept = i64::MAX.to_string();
    ensure!(entry.as_deref() == Some(kept.as_bytes()), "what was refused left {entry:?}");
    Ok(())
}

async fn lists_by_a_pattern(stage: Stage) -> Result<()> {
    let kv = KeyValue::new(stage.one);
    for key in ["config:a", "config:b", "config:b.c", "config", "configs:a", "user:1", "a[1]"] {
        kv.set(key, key).await?;
    }
    let cases: &[(&str, &[&str])] = &[
        ("config:*", &["config:a", "config:b", "config:b.c"]),
        ("config:?", &["config:a", "config:b"]),
        ("*:a", &["config:a", "configs:a"]),
        ("config:[b-z]*", &["config:b", "config:b.c"]),
        ("config:[^b]", &["config:a"]),
        (r"a\[1\]", &["a[1]"]),
        ("none*", &[]),
    ];
    for (pattern, expected) in cases {
        let found: BTreeMap<_, String> = kv.list(pattern).await?;
        let keys: Vec<_> = found.keys().map(|key| String::from_utf8_lossy(key)).collect();
        ensure!(keys == *expected, "{pattern} lists {keys:?}; it was to list {expected:?}");
        let wrong = found.iter().find(|(key, value)| **key != value.as_bytes());
        ensure!(wrong.is_none(), "{pattern} lists a key with another's value: {wrong:?}");
    }
    Ok(())
}

async fn lists_page_by_page(stage: Stage) -> Result<()> {
    const KEYS: usize = 1_500;
    let setting = (0..KEYS).map(|number| {
        let key = format!("k:{number}").into_bytes();
        let broker = &stage.one;
        async move { broker.kv_set(&key, "v".into(), SetOptions::new()).await }
    });
    let mut setting = futures::stream::iter(setting).buffer_unordered(64);
    while let Some(set) = setting.next().await {
        set?;
    }
    let (mut found, mut cursor, mut pages) = (BTreeMap::new(), None, 0);
    loop {
        let page = stage.other.kv_list(b"k:*", cursor).await?;
        found.extend(page.entries.into_iter().map(|entry| (entry.key, entry.value)));
        cursor = page.cursor;
        pages += 1;
        ensure!(pages <= 10 * KEYS, "{pages} pages, and no end");
        if cursor.is_none() {
            break;
        }
    }
    ensure!(found.len() == KEYS, "{pages} pages have {} of {KEYS} keys", found.len());
    Ok(())
}

async fn watches_see_every_change(stage: Stage) -> Result<()> {
    stage.other.kv_set(b"w:before", "0".into(), SetOptions::new()).await?;
    let mut changes = stage.one.kv_watch(b"w:*").await?;
    for number in 0..20 {
        stage.other.kv_set(b"w:k", number.to_string().into(), SetOptions::new()).await?;
        stage.other.kv_set(b"x:k", number.to_string().into(), SetOptions::new()).await?;
    }
    stage.other.kv_delete(b"w:k").await?;
    let expected = (0..20).map(|number| Some(number.to_string())).chain([None]);
    for expected in expected {
        let next = within("a change", changes.next()).await?.context("a watch ended")?;
        let KvChange { key, value } = next?;
        let shown = value.as_deref().map(String::from_utf8_lossy);
        ensure!(key == "w:k", "a change of {key:?} was seen");
        ensure!(
            value.as_deref() == expected.as_deref().map(str::as_bytes),
            "{shown:?} was seen where {expected:?} was to be"
        );
    }
    Ok(())
}

async fn keys_and_values_are_bytes(stage: Stage) -> Result<()> {
    for payload in payloads() {
        stage.one.kv_set(b"\0\xff\r\n", payload.clone().into(), SetOptions::new()).await?;
        let got = stage.other.kv_get(b"\0\xff\r\n").await?.context("it is not there")?.value;
        ensure!(got == payload, "{} came as {}", shown(&payload), shown(&got));
    }
    Ok(())
}

async fn another_type_is_an_error(stage: Stage) -> Result<()> {
    let kv = KeyValue::new(stage.one);
    kv.set("k", "text").await?;
    failed("reading a text as a number", kv.get::<u32>("k").await, is_not_the_type)?;
    failed("listing texts as numbers", kv.list::<u32>("*").await, is_not_the_type)?;
    let text: Option<String> = kv.get("k").await?;
    ensure!(text.as_deref() == Some("text"), "the text came as {text:?}");
    kv.set_bytes("k", "no JSON", SetOptions::new()).await?;
    failed("reading what is no JSON", kv.get::<String>("k").await, is_not_the_type)?;
    Ok(())
}
