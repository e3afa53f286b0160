//! Many callers, three nodes, and everything goes wrong at random: what the client said of each
//! call must agree with what happened.

use crate::fake::{Act, Fake, NOT_APPLIED, UNKNOWN, fail, status};
use quorate_client::Error;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;
use tonic::{Code, Status};

const SEEDS: u64 = 40;
const CALLERS: usize = 12;
const CALLS: usize = 25;

fn random_act(rng: &mut StdRng) -> Act {
    let soon = Duration::from_millis(rng.random_range(1..4_000));
    match rng.random_range(0..20) {
        0 => fail(Code::Unavailable, NOT_APPLIED, "NO_LEADER"),
        1 => fail(Code::Unavailable, UNKNOWN, "DEADLINE"),
        2 => Act::DoThenFail(status(Code::Unavailable, UNKNOWN, "DEADLINE")),
        3 => Act::DoThenFail(Status::unavailable("no trailer")),
        4 => Act::DoThenCut,
        5 => Act::Hang,
        6 => Act::HangThenDo(soon),
        7 => Act::AnswerAfter(soon),
        8 => fail(Code::ResourceExhausted, NOT_APPLIED, "OVERLOADED"),
        _ => Act::Answer,
    }
}

/// Breaks things until it is dropped.
async fn trouble(fake: &Fake, mut rng: StdRng) {
    loop {
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..600))).await;
        let node = &fake.nodes[rng.random_range(0..fake.nodes.len())];
        match rng.random_range(0..9) {
            0 | 1 => fake.net.kill(&node.addr),
            2 => fake.net.cut(&node.addr),
            3 => fake.net.reach(&node.addr, crate::fake::Reach::BlackHole),
            4 => fake.state.expire_sessions(),
            5 => node.names_leader(&fake.nodes[rng.random_range(0..3)].addr),
            _ => fake.net.reach(&node.addr, crate::fake::Reach::Open),
        }
    }
}

#[derive(Default)]
struct Tally {
    done: usize,
    failed: usize,
    unknown: usize,
    unknown_but_done: usize,
}

async fn storm(seed: u64, one_shot: bool, tally: &mut Tally) {
    let mut rng = StdRng::seed_from_u64(seed);
    let fake = Fake::start(3);
    fake.script("increment", (0..CALLERS * CALLS).map(|_| random_act(&mut rng)));
    fake.script("open", (0..10).map(|_| random_act(&mut rng)));
    fake.script("keep_alive", (0..10).map(|_| random_act(&mut rng)));
    let options = fake.options().seed(seed).one_shot(one_shot);
    let client = options.connect().expect("good options");

    let calls = async {
        let caller = |caller: usize| {
            let kv = client.kv();
            let mut rng = StdRng::seed_from_u64(seed ^ (1 << (20 + caller)));
            async move {
                let mut said = Vec::new();
                for call in 0..CALLS {
                    let key = format!("{caller}/{call}");
                    let timeout = Duration::from_millis(rng.random_range(20..1_500));
                    said.push((key.clone(), kv.increment(key, 1).timeout(timeout).await));
                }
                said
            }
        };
        futures::future::join_all((0..CALLERS).map(caller)).await.concat()
    };
    let said = tokio::select! {
        biased;
        said = calls => said,
        () = trouble(&fake, StdRng::seed_from_u64(!seed)) => unreachable!("it never ends"),
    };
    // What still lingers gets its chance to do harm.
    tokio::time::sleep(Duration::from_secs(10)).await;

    for (key, result) in said {
        let effects = fake.state.number(&key);
        match result {
            Ok(answer) => {
                assert_eq!((effects, answer.value), (1, 1), "seed {seed}: {key} was acknowledged");
                tally.done += 1;
            }
            Err(Error::Indeterminate { .. }) => {
                assert!((0..=1).contains(&effects), "seed {seed}: {key} has {effects} effects");
                tally.unknown += 1;
                tally.unknown_but_done += usize::from(effects == 1);
            }
            Err(error) => {
                assert_eq!(effects, 0, "seed {seed}: {key} has an effect in spite of {error:?}");
                tally.failed += 1;
            }
        }
    }
    assert_eq!(fake.state.violations(), [""; 0], "seed {seed}");
}

#[tokio::test(start_paused = true)]
async fn what_the_client_says_agrees_with_what_happened() {
    let seeds = match std::env::var("QUORATE_TEST_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("QUORATE_TEST_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    };
    let many = seeds.end - seeds.start == SEEDS;
    for one_shot in [false, true] {
        let mut tally = Tally::default();
        for seed in seeds.clone() {
            let at = Repeat(seed);
            storm(seed, one_shot, &mut tally).await;
            std::mem::forget(at);
        }
        if many {
            // Each kind of ending must occur, or the test shows nothing.
            let Tally { done, failed, unknown, unknown_but_done } = tally;
            assert!(done > 1_000 && failed > 100 && unknown > 100, "{done}, {failed}, {unknown}");
            assert!(unknown_but_done > 10 && unknown_but_done < unknown, "{unknown_but_done}");
        }
    }
}

/// Says, when a run panics, how to repeat it.
struct Repeat(u64);

impl Drop for Repeat {
    #[allow(clippy::print_stderr, reason = "the one thing a failed random test must say")]
    fn drop(&mut self) {
        eprintln!(
            "repeat it with: QUORATE_TEST_SEED={} cargo test --release -p quorate-client --test \
             client storm",
            self.0
        );
    }
}
