//! Checker of serializability by cycles: who depends on whom, without believing a sequence number.
//!
//! Values are unique, so a read names the write that it saw. Transactions, batches and readers are nodes of a graph; an edge
//! says that one must come before the other in every serial order:
//!
//! | edge | from | to |
//! |---|---|---|
//! | time | who was told that it committed | who was called after that |
//! | wr | who wrote a value | who read it |
//! | rw | who read a value | who wrote the next one |
//! | ww | who wrote a value | who wrote the next one |
//!
//! Which value is the next one follows from the graph itself: if `w` wrote what `r` read and `v` wrote the same key, and there is
//! a path from `w` to `v`, then `r` comes before `v`; and if there is a path from `v` to `r`, then `v` comes before `w`. That is
//! repeated until no edge is new.
//!
//! **Invariant.** There is no cycle, and nobody reads what no commit has left behind. A key that was absent counts only if one
//! node alone can have left it so.
//!
//! **Tripped by** `txn_validation_skipped`, `txn_ranges_unchecked`, `txn_misses_unrecorded`, `txn_group_unchecked`.
//!
//! Source: Adya, "Weak Consistency" (1999); Kingsbury and Alvaro, "Elle" (2020); Tan et al., "Cobra" (2020).

use super::history::{Ending, History, Sight};
use super::txn_history::{Commits, Node, Txn, TxnEnd};
use crate::profile::engine::value::{KeyId, Stamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The node that stands for what was there in the beginning.
const BASE: usize = 0;

/// Checks `txns`, whose commits are in `history`, and every view of it.
///
/// # Errors
/// No serial order explains what was read.
pub fn check(history: &History, txns: &[Txn]) -> Result<(), String> {
    let commits = Commits::new(history, txns);
    let mut nodes = vec![Node { step: 0, called: 0, returned: Some(0), reads: &[], writes: &[] }];
    for view in history.views.iter().filter(|view| !view.sights.is_empty()) {
        let (called, returned) = (view.called, Some(view.opened));
        nodes.push(Node { step: view.step, called, returned, reads: &view.sights, writes: &[] });
    }
    for txn in txns {
        if let TxnEnd::Read { at, .. } = txn.end {
            nodes.push(Node { step: txn.step, called: txn.begun, returned: Some(at), reads: &txn.reads, writes: &[] });
        }
    }
    let answered = commits.ended(|ending| matches!(ending, Ending::Acknowledged { .. }));
    nodes.extend(answered.into_iter().map(|at| commits.node(at)));
    let seen = commits.seen(nodes.iter().flat_map(|node| node.reads));
    nodes.extend(seen.iter().map(|at| commits.node(*at)));
    let mut hidden_deletes = BTreeSet::new();
    for at in commits.ended(|ending| ending == Ending::Unknown) {
        let deletes = history.commits[at].writes.iter().filter(|(_, stamp)| stamp.is_none());
        hidden_deletes.extend(deletes.filter(|_| !seen.contains(&at)).map(|(key, _)| *key));
    }
    let keys = keys(history, &nodes, &hidden_deletes)?;
    let mut graph = Graph::new(&nodes);
    graph.time(&nodes);
    graph.data(&keys);
    graph.check(&nodes)
}

/// Who wrote a key, and who read which of that.
#[derive(Default)]
struct Key {
    writers: Vec<usize>,
    /// (writer, reader).
    reads: Vec<(usize, usize)>,
}

/// Sorts writes and reads by key.
fn keys(history: &History, nodes: &[Node<'_>], hidden: &BTreeSet<KeyId>) -> Result<BTreeMap<KeyId, Key>, String> {
    let mut keys: BTreeMap<KeyId, Key> = BTreeMap::new();
    let mut writer: BTreeMap<(KeyId, Stamp), usize> = history.base.iter().map(|of| ((*of.0, *of.1), BASE)).collect();
    let mut absent: BTreeMap<KeyId, Vec<usize>> = BTreeMap::new();
    for (at, node) in nodes.iter().enumerate() {
        for (key, stamp) in node.writes {
            keys.entry(*key).or_default().writers.push(at);
            match stamp {
                Some(stamp) => drop(writer.insert((*key, *stamp), at)),
                None => absent.entry(*key).or_default().push(at),
            }
        }
    }
    let left_absent = |key: KeyId| {
        let deleted = absent.get(&key).into_iter().flatten().copied();
        let mut all = deleted.chain((!history.base.contains_key(&key)).then_some(BASE));
        let one = all.next();
        (one, all.next().is_some() || hidden.contains(&key))
    };
    for (at, node) in nodes.iter().enumerate() {
        for (key, stamp) in node.reads.iter().flat_map(each_key) {
            let from = match stamp {
                Some(stamp) => Some(*writer.get(&(key, stamp)).ok_or_else(|| {
                    format!(
                        "{} saw the value of step {} for key {key}, and no commit left it there",
                        node.name(),
                        stamp.step
                    )
                })?),
                None => match left_absent(key) {
                    (from, false) => Some(from.ok_or_else(|| {
                        format!("{} saw nothing for key {key}, and nobody has deleted it", node.name())
                    })?),
                    (_, true) => None,
                },
            };
            if let Some(from) = from.filter(|from| *from != at) {
                keys.entry(key).or_default().reads.push((from, at));
            }
        }
    }
    Ok(keys)
}

/// Returns every key of a sight with what was there.
fn each_key(sight: &Sight) -> impl Iterator<Item = (KeyId, Option<Stamp>)> {
    let mut found = sight.found.iter().peekable();
    (sight.start..sight.end).map(move |key| {
        let is_it = found.next_if(|(at, _)| *at == key);
        (key, is_it.map(|(_, stamp)| *stamp))
    })
}

/// Why one comes before the other, in the order in which edges are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    Wr(KeyId),
    Rw(KeyId),
    Ww(KeyId),
    Time,
}

struct Graph {
    edges: Vec<BTreeMap<usize, Why>>,
    /// By node, a bit for each one that can be reached from it.
    reach: Vec<Vec<u64>>,
}

impl Graph {
    fn new(nodes: &[Node<'_>]) -> Graph {
        let reach = vec![vec![0; nodes.len().div_ceil(64)]; nodes.len()];
        Graph { edges: vec![BTreeMap::new(); nodes.len()], reach }
    }

    /// Adds an edge; returns whether there was none.
    fn add(&mut self, from: usize, to: usize, why: Why) -> bool {
        let is_new = from != to && !self.edges[from].contains_key(&to);
        if is_new {
            self.edges[from].insert(to, why);
        }
        is_new
    }

    fn time(&mut self, nodes: &[Node<'_>]) {
        for (from, earlier) in nodes.iter().enumerate() {
            for (to, later) in nodes.iter().enumerate() {
                if earlier.returned.is_some_and(|returned| returned < later.called) {
                    self.add(from, to, Why::Time);
                }
            }
        }
    }

    /// Adds the edges of what was read and written, until no more follow.
    fn data(&mut self, keys: &BTreeMap<KeyId, Key>) {
        for (key, of) in keys {
            for (writer, reader) in &of.reads {
                self.add(*writer, *reader, Why::Wr(*key));
            }
        }
        loop {
            if !self.close() {
                return;
            }
            let mut more = false;
            for (key, of) in keys {
                for (writer, reader) in &of.reads {
                    for other in of.writers.iter().filter(|other| **other != *writer && **other != *reader) {
                        if self.reaches(*writer, *other) {
                            more |= self.add(*reader, *other, Why::Rw(*key));
                        }
                        if self.reaches(*other, *reader) {
                            more |= self.add(*other, *writer, Why::Ww(*key));
                        }
                    }
                }
            }
            if !more {
                return;
            }
        }
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        self.reach[from][to / 64] >> (to % 64) & 1 == 1
    }

    /// Computes who reaches whom; returns false if there is a cycle.
    fn close(&mut self) -> bool {
        let Some(order) = self.order() else { return false };
        for from in order.into_iter().rev() {
            let mut reach = vec![0; self.reach[from].len()];
            for to in self.edges[from].keys() {
                reach[to / 64] |= 1 << (to % 64);
                reach.iter_mut().zip(&self.reach[*to]).for_each(|(mine, theirs)| *mine |= theirs);
            }
            self.reach[from] = reach;
        }
        true
    }

    /// Returns the nodes so that all edges lead on, if that can be.
    fn order(&self) -> Option<Vec<usize>> {
        let mut before = vec![0_usize; self.edges.len()];
        self.edges.iter().flat_map(BTreeMap::keys).for_each(|to| before[*to] += 1);
        let mut order: Vec<usize> = (0..before.len()).filter(|at| before[*at] == 0).collect();
        let mut done = 0;
        while let Some(from) = order.get(done).copied() {
            done += 1;
            for to in self.edges[from].keys() {
                before[*to] -= 1;
                if before[*to] == 0 {
                    order.push(*to);
                }
            }
        }
        (order.len() == self.edges.len()).then_some(order)
    }

    fn check(&self, nodes: &[Node<'_>]) -> Result<(), String> {
        if self.order().is_some() {
            return Ok(());
        }
        let shortest = (0..nodes.len()).filter_map(|from| self.way_back(from)).min_by_key(Vec::len).unwrap_or_default();
        let shown = shortest.iter().map(|(from, why)| {
            let because = match why {
                Why::Wr(key) => format!("whose value of key {key} was read by"),
                Why::Rw(key) => format!("which read key {key} before it was written by"),
                Why::Ww(key) => format!("whose value of key {key} was replaced by"),
                Why::Time => "which was over before".into(),
            };
            format!("{}, {because} ", nodes[*from].name())
        });
        let last = shortest.first().map_or(String::new(), |(from, _)| nodes[*from].name());
        Err(format!("no serial order: {}{last}", shown.collect::<String>()))
    }

    /// Returns the shortest way from a node back to it.
    fn way_back(&self, from: usize) -> Option<Vec<(usize, Why)>> {
        let mut came: BTreeMap<usize, usize> = BTreeMap::new();
        let mut next = VecDeque::from([from]);
        while let Some(at) = next.pop_front() {
            for to in self.edges[at].keys() {
                if *to == from {
                    let mut way = vec![(at, self.edges[at][to])];
                    let mut at = at;
                    while at != from {
                        let before = came[&at];
                        way.push((before, self.edges[before][&at]));
                        at = before;
                    }
                    way.reverse();
                    return Some(way);
                }
                if !came.contains_key(to) {
                    came.insert(*to, at);
                    next.push_back(*to);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::txn_history::tests::{Story, range, saw};

    fn check(story: &Story) -> Result<(), String> {
        super::check(&story.history, &story.txns)
    }

    #[test]
    fn transactions_one_after_the_other_are_serial() {
        let mut story = Story::default();
        story.at_once(1, vec![saw(1, 0)], &[(1, true), (2, true)]);
        story.at_once(2, vec![saw(1, 1), range(0, 9, &[(1, 1), (2, 1)])], &[(1, true)]);
        let reader = story.begin(3, vec![range(0, 9, &[(1, 2), (2, 1)])]);
        story.read_only(reader, 0);
        assert_eq!(check(&story), Ok(()));
    }

    #[test]
    fn a_lost_update_is_a_cycle() {
        let mut story = Story::default();
        let (a, b) = (story.begin(1, vec![saw(1, 0)]), story.begin(2, vec![saw(1, 0)]));
        story.commit(a, &[(1, true)]);
        story.commit(b, &[(1, true)]);
        assert!(check(&story).is_err());
    }

    #[test]
    fn write_skew_is_a_cycle() {
        let mut story = Story::default();
        let (a, b) = (story.begin(1, vec![saw(2, 0)]), story.begin(2, vec![saw(1, 0)]));
        story.commit(a, &[(1, true)]);
        story.commit(b, &[(2, true)]);
        let message = check(&story).unwrap_err();
        assert!(message.contains("step 1") && message.contains("step 2"), "{message}");
    }

    #[test]
    fn two_phantoms_are_a_cycle() {
        let mut story = Story::default();
        let (a, b) = (story.begin(1, vec![range(0, 9, &[])]), story.begin(2, vec![range(10, 19, &[])]));
        story.commit(a, &[(15, true)]);
        story.commit(b, &[(5, true)]);
        assert!(check(&story).is_err());
    }

    #[test]
    fn a_long_fork_is_a_cycle() {
        let mut story = Story::default();
        let readers = (story.begin(3, vec![saw(1, 1), saw(2, 0)]), story.begin(4, vec![saw(1, 0), saw(2, 2)]));
        story.at_once(1, vec![], &[(1, true)]);
        story.at_once(2, vec![], &[(2, true)]);
        story.read_only(readers.0, 1);
        story.read_only(readers.1, 1);
        assert!(check(&story).is_err());
    }

    #[test]
    fn an_old_read_is_a_cycle_with_time() {
        let mut story = Story::default();
        story.at_once(1, vec![], &[(1, true)]);
        story.at_once(2, vec![saw(1, 0)], &[(2, true)]);
        assert!(check(&story).is_err());
    }

    #[test]
    fn what_was_taken_back_cannot_be_read() {
        let mut story = Story::default();
        story.begin(1, vec![]);
        story.at_once(2, vec![saw(1, 1)], &[]);
        assert!(check(&story).unwrap_err().contains("no commit left it there"));
    }

    #[test]
    fn a_commit_without_an_answer_that_was_seen_takes_part() {
        let mut story = Story::default();
        let lost = story.begin(1, vec![]);
        story.unanswered(lost, &[(1, true), (2, true)], true);
        story.at_once(2, vec![saw(1, 1), saw(2, 1)], &[]);
        assert_eq!(check(&story), Ok(()));
        story.at_once(3, vec![saw(1, 0)], &[]);
        assert!(check(&story).is_err());
    }
}
