//! The cache of a cluster: one builder for all nodes, a bound that keeps what is read, and reads that
//! see what their client has seen.

use crate::running::{Running, nodes};
use quorate_client::cache::{BuildError, BuildOptions, NearOptions};
use quorate_client::{Client, Routing};
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{alone, wait_until};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of each node alone.
fn clients(cluster: &ProcessCluster) -> Vec<Client> {
    let of = |id| {
        let builder = Client::builder().endpoints([cluster.client_addr(id).to_string()]);
        builder.routing(Routing::Endpoints).connect().expect("the options are right")
    };
    cluster.ids().into_iter().map(of).collect()
}

#[tokio::test]
async fn entries_are_set_read_and_deleted_on_the_command_line() {
    let _alone = alone().await;
    let (_cluster, quorate) = nodes(1).await;
    quorate.run("cache set user:1 ann --ttl 1h --tag users --tag eu").await.expect(0);
    let got = quorate.run("cache get user:1").await.expect(0);
    assert_eq!(got.stdout, b"ann", "the bytes and nothing else");
    let entry = quorate.run("cache get user:1 --linearizable -o json").await.expect(0).json();
    assert_eq!((&entry["value"], &entry["stale"]), (&"ann".into(), &false.into()), "{entry}");
    quorate.run("cache invalidate-tags eu").await.expect(0);
    quorate.run("cache get user:1 --linearizable").await.expect(3);
    for key in ["user:2", "user:3", "other"] {
        quorate.run(&format!("cache set {key} x --ttl 1h")).await.expect(0);
    }
    let deleted = quorate.run("cache del-pattern user:* -o json").await.expect(0).json();
    assert_eq!(deleted["deleted"], 2, "{deleted}");
    quorate.run("cache del other").await.expect(0);
    quorate.run("cache get other --linearizable").await.expect(3);
    // The first builds it; for the second it is there.
    for says in ["built", "other"] {
        let line = format!("cache get-or-build report --ttl 10m -- printf {says}");
        assert_eq!(quorate.run(&line).await.expect(0).text(), "built");
    }
    quorate.run("cache resize 8MiB").await.expect(0);
    let stats = quorate.run("cache stats -o json").await.expect(0).json();
    assert_eq!((&stats["bytes_max"], &stats["entries"]), (&(8 << 20).into(), &1.into()), "{stats}");
    quorate.run("cache set k v --ttl 30").await.expect(2).expect_stderr("30s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_callers_through_three_nodes_one_builds() {
    let _alone = alone().await;
    let (cluster, _) = nodes(3).await;
    // Each call from a client of its own, or the client itself would ask only once.
    let builds = Arc::new(AtomicUsize::new(0));
    let endpoints = cluster.endpoints();
    let calls: Vec<_> = (0..200)
        .map(|nth| {
            let (builds, endpoint) = (Arc::clone(&builds), endpoints[nth % 3].clone());
            tokio::spawn(async move {
                let client = Client::builder().endpoints([endpoint]).routing(Routing::Endpoints);
                let cache = client.connect().expect("the options are right").cache();
                let build = move || {
                    let builds = Arc::clone(&builds);
                    async move {
                        builds.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(300)).await;
                        Ok::<_, Infallible>("built")
                    }
                };
                let options = BuildOptions::new().timeout(PATIENCE).wait(PATIENCE);
                cache.get_or_build("cold", options, build).await.expect("it is built").value
            })
        })
        .collect();
    for call in calls {
        assert_eq!(&call.await.expect("no call panics")[..], b"built");
    }
    assert_eq!(builds.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_builder_that_fails_stores_nothing_and_one_that_is_gone_is_followed() {
    let _alone = alone().await;
    let (cluster, _) = nodes(3).await;
    let clients = clients(&cluster);
    let (one, two) = (clients[0].cache(), clients[1].cache());
    let options = || BuildOptions::new().build_lease(Duration::from_secs(2)).timeout(PATIENCE);
    let failing = one.get_or_build("k", options(), || async { Err::<&str, _>("no database") });
    match failing.await {
        Err(BuildError::Build(error)) => assert_eq!(error, "no database"),
        other => panic!("{other:?}"),
    }
    assert!(two.get("k").linearizable().await.expect("a read").is_none());

    // Its process is as good as gone: the future of a builder that hangs is never polled again.
    let hanging = one.clone();
    let began = Instant::now();
    let hangs = tokio::spawn(async move {
        let hang = || std::future::pending::<Result<&str, &str>>();
        let _ = hanging.get_or_build("k", options(), hang).await;
    });
    wait_until("somebody builds", PATIENCE, || async {
        two.stats().await.is_ok_and(|stats| stats.builds == 1)
    })
    .await;
    let next = two.get_or_build("k", options(), || async { Ok::<_, Infallible>("next") });
    let next = next.await.expect("the next one builds");
    assert_eq!(&next.value[..], b"next");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    hangs.abort();
}

#[tokio::test]
async fn a_builder_whose_process_is_killed_is_followed() {
    let _alone = alone().await;
    let (_cluster, quorate) = nodes(1).await;
    let mut command = quorate.command();
    command.args(["cache", "get-or-build", "k", "--build-lease", "2s", "--", "sleep", "60"]);
    let mut builder = Running::start(command);
    wait_until("it builds", PATIENCE, || async {
        let stats = quorate.run("cache stats -o json").await.expect(0).json();
        stats["builds"] == 1
    })
    .await;
    builder.child.kill().await.expect("it can be killed");
    let next = quorate.run("cache get-or-build k --wait 30s -- printf next").await.expect(0);
    assert_eq!(next.text(), "next");
    assert_eq!(quorate.run("cache get k").await.expect(0).text(), "next");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_cache_keeps_what_is_read_and_all_nodes_hold_the_same() {
    let _alone = alone().await;
    let (mut cluster, quorate) = nodes(3).await;
    quorate.run("cache resize 16MiB").await.expect(0);
    let clients = clients(&cluster);
    let leader = cluster.leader().await.expect("somebody leads");
    let follower = cluster.ids().iter().position(|id| *id != leader).expect("of three");
    let hot: Vec<String> = (0..100).map(|nth| format!("hot:{nth}")).collect();
    let value = vec![7_u8; 16 << 10];
    // Beside them, and as old: only that nobody reads those is different.
    let unread: Vec<String> = (0..100).map(|nth| format!("hot:{nth}:unread")).collect();
    for key in hot.iter().chain(&unread) {
        clients[0].cache().set(key, value.clone()).await.expect("there is room");
    }
    // Clients of a follower read them all the time.
    let stop = Arc::new(AtomicBool::new(false));
    let reading = {
        let (cache, hot, stop) = (clients[follower].cache(), hot.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                for key in &hot {
                    let read = cache.get(key).await.expect("a read");
                    assert!(read.is_some(), "{key} was evicted");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
    };
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    // Ten times what fits, through all nodes.
    let writers: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(node, client)| {
            let (cache, value) = (client.cache(), value.clone());
            tokio::spawn(async move {
                for nth in 0..10 * 1_024 / 3 {
                    let set = cache.set(format!("cold:{node}:{nth}"), value.clone());
                    set.timeout(PATIENCE).await.expect("room is made");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no writer fails");
    }
    stop.store(true, Ordering::Relaxed);
    reading.await.expect("all that was read is still there");
    cluster.wait_same_state().await.expect("all nodes hold the same");
    for client in &clients {
        let stats = client.cache().stats().await.expect("stats");
        assert!(stats.bytes <= 16 << 20, "{stats:?}");
        assert!(stats.entries > 500, "{stats:?}");
    }
    for key in &hot {
        assert!(clients[0].cache().get(key).await.expect("a read").is_some(), "{key} is gone");
    }
    for key in &unread {
        assert!(clients[0].cache().get(key).await.expect("a read").is_none(), "{key} is there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_is_older_than_what_its_client_has_seen() {
    let _alone = alone().await;
    let (cluster, _) = nodes(3).await;
    let endpoints = cluster.endpoints();
    let any = Client::builder().endpoints(&endpoints).routing(Routing::AnyNode);
    let client = any.connect().expect("the options are right");
    let other = clients(&cluster).remove(2);
    let plain = client.cache();
    let near = client.cache().near(NearOptions::new());
    let mut hits = 0;
    for round in 0..300_u32 {
        let value = round.to_string();
        match round % 3 {
            0 => drop(plain.set("k", value.clone()).tag("t").await.expect("a set")),
            1 => drop(near.set("k", value.clone()).tag("t").await.expect("a set")),
            // By another client, that this one hears of through a key.
            _ => {
                other.cache().set("k", value.clone()).tag("t").await.expect("a set");
                other.kv().set("seen", value.clone()).await.expect("a set");
                assert_eq!(
                    &client.kv().get("seen").await.expect("a read").expect("it is set").value[..],
                    value.as_bytes()
                );
            }
        }
        for cache in [&plain, &near, &near] {
            let got = cache.get("k").await.expect("a read").expect("it was set");
            assert_eq!(&got.value[..], value.as_bytes(), "round {round}");
        }
        if round % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            near.get("k").await.expect("a read");
            near.get("k").await.expect("a read");
        }
        if round % 7 == 0 {
            plain.invalidate_tags(["t"]).await.expect("invalidated");
            for cache in [&plain, &near] {
                assert!(cache.get("k").await.expect("a read").is_none(), "round {round}");
            }
        }
        hits = client.cache().counters().near_hits;
    }
    assert!(hits > 0, "the near cache never answered");
}
