//! A hub and routers over links that break, against a plain model: a list of what was published, and
//! what each subscription may and must have seen of it.

mod steps;
mod verdict;
mod world;

use super::property;
use proptest::prelude::*;
use std::cell::Cell;
use steps::{Step, steps};
use world::World;

fn run(steps: &[Step]) -> World {
    let mut world = World::new();
    for step in steps {
        world.step(step);
        world.check();
    }
    world.come_to_rest();
    world.check();
    world
}

#[test]
fn every_subscriber_sees_what_it_asked_for_or_a_gap() {
    let reached = Cell::new([0_u64; world::REACHED.len()]);
    property("every_subscriber_sees", 3_000, &steps(1..150), |steps| {
        let world = run(&steps);
        world.verdict()?;
        let mut sum = reached.get();
        sum.iter_mut().zip(world.reached()).for_each(|(sum, some)| *sum += some);
        reached.set(sum);
        Ok(())
    });
    for (what, times) in world::REACHED.iter().zip(reached.get()) {
        assert!(times > 0, "the steps hardly lead to {what}: {times} times");
    }
}

#[test]
fn the_same_steps_give_the_same_messages() {
    property("the_same_steps", 50, &steps(1..150), |steps| {
        prop_assert_eq!(run(&steps).seen(), run(&steps).seen());
        Ok(())
    });
}
