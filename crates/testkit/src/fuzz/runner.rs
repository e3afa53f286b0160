//! Runs a decoder on as many inputs as are wanted, on all cores, and says what it did or which input it
//! failed on.

use super::measure::peak_bytes;
use super::rng::Rng;
use super::{Decoder, mutate};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

/// How long one input may take. A machine that is busy with something else gets a second chance.
const TIME_MAX: Duration = Duration::from_secs(1);
/// Examples that are decoded before anything is measured, so that what is set up once does not count.
const WARM_UP: u64 = 256;
/// Inputs of one thread. Their numbers are in the name of the thread, which is what an overflow of its
/// stack tells.
const BLOCK: u64 = 5_000;

/// Which inputs.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What they are made from.
    pub seed: u64,
    /// The number of the first.
    pub from: u64,
    /// How many.
    pub inputs: u64,
    /// Threads.
    pub jobs: usize,
}

/// What a decoder did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row {
    /// Inputs.
    pub inputs: u64,
    /// Of those, what it accepted.
    pub accepted: u64,
    /// The most memory that one of them took.
    pub peak_bytes: usize,
    /// How long the slowest one took, and its number.
    pub slowest: Duration,
    /// See above.
    pub slowest_number: u64,
    /// How long all took.
    pub took: Duration,
}

/// An input that a decoder failed on.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which decoder.
    pub decoder: &'static str,
    /// What the input is made from.
    pub seed: u64,
    /// Its number.
    pub number: u64,
    /// Itself.
    pub input: Vec<u8>,
    /// What happened.
    pub what: String,
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps what a panic of a decoder says, instead of printing it.
fn listen_to_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if QUIET.get() {
                let said = info.to_string();
                SAID.with(|text| text.replace(said));
            } else {
                before(info);
            }
        }));
    });
}

/// The input of this number.
#[must_use]
pub fn input_of(decoder: &Decoder, seed: u64, number: u64) -> Vec<u8> {
    let mut rng = Rng::of_input(seed, decoder.name, number);
    mutate::input(&mut rng, decoder.example, decoder.words)
}

/// Runs a decoder on all inputs of the plan, or up to one that it fails on.
///
/// # Errors
/// An input that it failed on, and how.
pub fn run(decoder: &Decoder, plan: &Plan) -> Result<Row, Box<Found>> {
    listen_to_panics();
    warm_up(decoder);
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let sum = Mutex::new((Row::default(), None::<Box<Found>>));
    let began = Instant::now();
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let first = next.fetch_add(BLOCK, Ordering::Relaxed);
            if first >= plan.inputs {
                return;
            }
            let count = BLOCK.min(plan.inputs - first);
            let done = block(decoder, plan.seed, plan.from + first, count);
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            match done {
                Ok(row) => sum.0.add(&row),
                Err(found) => {
                    stop.store(true, Ordering::Relaxed);
                    // The lowest number, of those that are known.
                    if sum.1.as_ref().is_none_or(|other| other.number > found.number) {
                        sum.1 = Some(found);
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs.max(1) {
            scope.spawn(work);
        }
    });
    let (row, found) = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    match found {
        Some(found) => Err(found),
        None => Ok(Row { took: began.elapsed(), ..row }),
    }
}

/// Decodes examples as they are, so that what is set up once, as time zones, is set up.
fn warm_up(decoder: &Decoder) {
    QUIET.set(true);
    for number in 0..WARM_UP {
        let example = (decoder.example)(&mut Rng::of_input(0, decoder.name, number));
        // Whoever fails here fails below as well, where it is told.
        let _ = catch_unwind(AssertUnwindSafe(|| (decoder.decode)(&example)));
    }
    QUIET.set(false);
}

/// Some inputs that follow each other, on a thread of their own.
fn block(decoder: &Decoder, seed: u64, first: u64, count: u64) -> Result<Row, Box<Found>> {
    let thread = std::thread::Builder::new()
        .name(format!("{} --seed {seed} --from {first} --inputs {count}", decoder.name));
    std::thread::scope(|scope| {
        let inputs = move || {
            let mut row = Row::default();
            for number in first..first + count {
                row.add(&run_one(decoder, seed, number, &input_of(decoder, seed, number))?);
            }
            Ok(row)
        };
        let thread = thread.spawn_scoped(scope, inputs).expect("the system has room for a thread");
        thread.join().expect("what a decoder panics with is caught")
    })
}

/// Runs a decoder on one input.
///
/// # Errors
/// When it fails, and how.
pub fn run_one(decoder: &Decoder, seed: u64, number: u64, input: &[u8]) -> Result<Row, Box<Found>> {
    listen_to_panics();
    let found = |what: String| {
        let (decoder, input) = (decoder.name, input.to_vec());
        Err(Box::new(Found { decoder, seed, number, input, what }))
    };
    let timed = || {
        let began = Instant::now();
        QUIET.set(true);
        let (decoded, peak) = peak_bytes(decoder.name, number, || {
            catch_unwind(AssertUnwindSafe(|| (decoder.decode)(input)))
        });
        QUIET.set(false);
        (decoded, peak, began.elapsed())
    };
    let (decoded, peak, mut took) = timed();
    let accepted = match decoded {
        Ok(accepted) => accepted,
        Err(panic) => return found(format!("it panics: {}", said(&*panic))),
    };
    let allowed = decoder.memory.of(input.len());
    if peak > allowed {
        return found(format!(
            "it takes {peak} bytes of memory for {} of input; {allowed} are allowed",
            input.len()
        ));
    }
    if took > TIME_MAX {
        took = timed().2;
        if took > TIME_MAX {
            return found(format!("it takes {took:?}; {TIME_MAX:?} is allowed"));
        }
    }
    let (accepted, peak_bytes, slowest) = (accepted.into(), peak, took);
    Ok(Row { inputs: 1, accepted, peak_bytes, slowest, slowest_number: number, took })
}

/// What a panic said, and where.
fn said(panic: &(dyn Any + Send)) -> String {
    let said = SAID.with(RefCell::take);
    let payload = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let payload = payload.or_else(|| panic.downcast_ref::<String>().cloned());
    if said.is_empty() { payload.unwrap_or_default() } else { said }
}

impl Row {
    fn add(&mut self, other: &Self) {
        self.inputs += other.inputs;
        self.accepted += other.accepted;
        self.peak_bytes = self.peak_bytes.max(other.peak_bytes);
        if other.slowest > self.slowest {
            (self.slowest, self.slowest_number) = (other.slowest, other.slowest_number);
        }
    }
}
