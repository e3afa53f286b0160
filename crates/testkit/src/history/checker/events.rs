//! The events that are still to be explained.

/// The events of answered operations in order, as a doubly linked list. The invocation of
/// operation `i` of `n` is event `i`, its return is event `n + i`, and event `2n` is both ends.
pub(super) struct Events {
    operations: usize,
    /// Of each event.
    pub(super) position: Vec<u64>,
    /// The event after each.
    pub(super) next: Vec<usize>,
    previous: Vec<usize>,
}

impl Events {
    /// From the positions of invocation and return.
    pub(super) fn new(intervals: impl Iterator<Item = (u64, u64)>) -> Self {
        let (mut position, returns): (Vec<_>, Vec<_>) = intervals.unzip();
        let operations = position.len();
        position.extend(returns);
        let ends = position.len();
        // So that a scan for the first return ends here when none is left.
        position.push(u64::MAX);
        let mut order: Vec<usize> = (0..=ends).collect();
        order.sort_unstable_by_key(|event| position[*event]);
        let (mut next, mut previous) = (vec![ends; ends + 1], vec![ends; ends + 1]);
        for (index, event) in order.iter().enumerate() {
            let following = order[(index + 1) % order.len()];
            next[*event] = following;
            previous[following] = *event;
        }
        Self { operations, position, next, previous }
    }

    /// The first event that is left.
    pub(super) fn first(&self) -> usize {
        self.next[self.operations * 2]
    }

    /// The operation that is invoked by this event, if it is an invocation.
    pub(super) fn invocation(&self, event: usize) -> Option<usize> {
        (event < self.operations).then_some(event)
    }

    /// The operation that returns by this event.
    pub(super) fn operation(&self, event: usize) -> usize {
        event - self.operations
    }

    /// The first return that is left.
    pub(super) fn first_return(&self) -> usize {
        let mut event = self.first();
        while event < self.operations {
            event = self.next[event];
        }
        event
    }

    /// Removes both events of an operation.
    pub(super) fn lift(&mut self, operation: usize) {
        for event in [operation, self.operations + operation] {
            self.next[self.previous[event]] = self.next[event];
            self.previous[self.next[event]] = self.previous[event];
        }
    }

    /// Undoes the last `lift` that was not undone yet.
    pub(super) fn put_back(&mut self, operation: usize) {
        for event in [self.operations + operation, operation] {
            self.next[self.previous[event]] = event;
            self.previous[self.next[event]] = event;
        }
    }
}
