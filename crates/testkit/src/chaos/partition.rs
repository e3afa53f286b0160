//! The shapes of partitions: which packets are lost, from whom to whom.

use super::plan::Shape;
use crate::process::NodeId;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

/// The directions that are cut.
pub(super) fn cuts(
    shape: Shape,
    leader: NodeId,
    nodes: &[NodeId],
    rng: &mut StdRng,
) -> Vec<(NodeId, NodeId)> {
    let mut others: Vec<_> = nodes.iter().copied().filter(|node| *node != leader).collect();
    others.shuffle(rng);
    let both = |a: &[NodeId], b: &[NodeId]| -> Vec<_> {
        let pairs = a.iter().flat_map(|from| b.iter().map(move |to| (*from, *to)));
        pairs.flat_map(|(from, to)| [(from, to), (to, from)]).collect()
    };
    match shape {
        Shape::LeaderAlone | Shape::Flapping => both(&[leader], &others),
        Shape::FollowerAlone => match others.split_first() {
            Some((alone, rest)) => {
                let mut rest = rest.to_vec();
                rest.push(leader);
                both(&[*alone], &rest)
            }
            None => Vec::new(),
        },
        Shape::Halves => {
            let mut all = nodes.to_vec();
            all.shuffle(rng);
            let (a, b) = all.split_at(all.len() / 2);
            both(a, b)
        }
        Shape::Bridge => {
            let mut all = nodes.to_vec();
            all.shuffle(rng);
            match all.split_first() {
                Some((_, rest)) => {
                    let (a, b) = rest.split_at(rest.len() / 2);
                    both(a, b)
                }
                None => Vec::new(),
            }
        }
        // Each sends to the next one only.
        Shape::Ring => {
            let next = |at: usize| nodes[(at + 1) % nodes.len()];
            let from = nodes.iter().enumerate();
            from.flat_map(|(at, from)| {
                let lost = nodes.iter().filter(move |to| *to != from && **to != next(at));
                lost.map(move |to| (*from, *to))
            })
            .collect()
        }
        Shape::LeaderUnheard => others.iter().map(|to| (leader, *to)).collect(),
        Shape::LeaderDeaf => others.iter().map(|from| (*from, leader)).collect(),
        Shape::ClientsFromLeader => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use std::collections::BTreeSet;

    fn cut(shape: Shape, nodes: &[NodeId]) -> BTreeSet<(NodeId, NodeId)> {
        cuts(shape, 1, nodes, &mut StdRng::seed_from_u64(1)).into_iter().collect()
    }

    fn is_symmetric(cut: &BTreeSet<(NodeId, NodeId)>) -> bool {
        cut.iter().all(|(from, to)| cut.contains(&(*to, *from)))
    }

    #[test]
    fn a_leader_alone_reaches_nobody_and_one_unheard_hears() {
        let alone = cut(Shape::LeaderAlone, &[1, 2, 3]);
        assert_eq!(alone, BTreeSet::from([(1, 2), (2, 1), (1, 3), (3, 1)]));
        assert_eq!(cut(Shape::LeaderUnheard, &[1, 2, 3]), BTreeSet::from([(1, 2), (1, 3)]));
        assert_eq!(cut(Shape::LeaderDeaf, &[1, 2, 3]), BTreeSet::from([(2, 1), (3, 1)]));
    }

    #[test]
    fn halves_of_five_are_two_and_three() {
        let halves = cut(Shape::Halves, &[1, 2, 3, 4, 5]);
        assert!(halves.len() == 12 && is_symmetric(&halves), "{halves:?}");
    }

    #[test]
    fn a_bridge_of_five_has_one_node_that_reaches_all() {
        let bridge = cut(Shape::Bridge, &[1, 2, 3, 4, 5]);
        assert!(bridge.len() == 8 && is_symmetric(&bridge), "{bridge:?}");
        let cut_off = |node: &NodeId| bridge.iter().any(|(from, _)| from == node);
        assert_eq!([1, 2, 3, 4, 5].iter().filter(|node| !cut_off(node)).count(), 1);
    }

    #[test]
    fn in_a_ring_each_is_heard_by_the_next_one_only() {
        let ring = cut(Shape::Ring, &[1, 2, 3]);
        assert_eq!(ring, BTreeSet::from([(1, 3), (2, 1), (3, 2)]));
        assert_eq!(cut(Shape::Ring, &[1, 2, 3, 4, 5]).len(), 15);
    }

    #[test]
    fn a_follower_alone_is_not_the_leader() {
        let alone = cut(Shape::FollowerAlone, &[1, 2, 3]);
        let twice = |node| alone.iter().filter(|(from, _)| *from == node).count() == 2;
        assert!(alone.len() == 4 && !twice(1) && (twice(2) || twice(3)), "{alone:?}");
    }
}
