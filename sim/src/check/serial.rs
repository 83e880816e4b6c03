//! Checker of serializability by replay: the order of commits explains every read.
//!
//! A commit has a sequence number, so the serial order is known: transactions and batches are run on a model, one after the
//! other by their numbers, and each must see exactly what it saw when it ran among others - keys that were there, keys that
//! were not, and every entry of every range, so that a phantom shows. One that wrote nothing reads at the number it was told.
//!
//! **Invariant.** Every committed transaction saw what it would have seen alone at its place in that order. A commit without
//! an answer (the process died, or the disk failed) is in or out as a whole: in where its numbers fit, if somebody saw it.
//!
//! **Tripped by** `txn_validation_skipped`, `txn_ranges_unchecked`, `txn_misses_unrecorded`, `txn_range_end_unrecorded`,
//! `txn_group_unchecked`, `txn_tables_unchecked`.

use super::history::{Ending, History, Sight};
use super::txn_history::{Commits, Node, Txn, TxnEnd};
use crate::profile::engine::value::{KeyId, Stamp};
use std::collections::BTreeMap;

/// How many places of commits without an answer are tried before the checker gives up and lets the run pass.
const ARRANGEMENTS_MAX: u32 = 2_000;

/// Checks `txns`, whose commits are in `history`.
///
/// # Errors
/// A transaction saw what it would not have seen alone.
pub fn check(history: &History, txns: &[Txn]) -> Result<(), String> {
    let commits = Commits::new(history, txns);
    let mut line = Vec::new();
    let mut free = Free { next: history.base_seq + 1, gaps: Vec::new() };
    let mut answered = commits.ended(|ending| matches!(ending, Ending::Acknowledged { .. }));
    answered.sort_by_key(|at| history.commits[*at].seqs());
    for at in answered {
        let Some((first, last)) = history.commits[at].seqs() else { continue };
        free.take(first, last);
        line.push(Item { seq: last, reads_only: false, node: commits.node(at) });
    }
    for txn in txns {
        if let TxnEnd::Read { at, seq } = txn.end {
            let (returned, reads, writes) = (Some(at), txn.reads.as_slice(), [].as_slice());
            let node = Node { step: txn.step, called: txn.begun, returned, reads, writes };
            line.push(Item { seq, reads_only: true, node });
        }
    }
    let reads = line.iter().flat_map(|item| item.node.reads).chain(history.views.iter().flat_map(|view| &view.sights));
    let seen = commits.seen(reads);
    let unknown = commits.ended(|ending| ending == Ending::Unknown);
    let unknown: Vec<(usize, bool)> = unknown.into_iter().map(|at| (at, seen.contains(&at))).collect();
    let mut search = Search { commits: &commits, line, tries: 0, wrong: None };
    match search.place(&unknown, &free) {
        true => Ok(()),
        false => Err(search.wrong.unwrap_or_else(|| "a commit that was seen has no place in the order".into())),
    }
}

/// A transaction, batch or reader with its place in the order.
#[derive(Clone)]
struct Item<'a> {
    seq: u64,
    /// It reads behind the commit of this number.
    reads_only: bool,
    node: Node<'a>,
}

/// The sequence numbers that nobody was told.
#[derive(Clone)]
struct Free {
    /// The first one behind all that are taken.
    next: u64,
    /// First and last of each gap.
    gaps: Vec<(u64, u64)>,
}

impl Free {
    /// Takes numbers behind all that are taken.
    fn take(&mut self, first: u64, last: u64) {
        if first > self.next {
            self.gaps.push((self.next, first - 1));
        }
        self.next = self.next.max(last + 1);
    }

    /// Returns each way to take so many numbers: the last of them, and what is free then.
    fn ways(&self, count: u64) -> Vec<(u64, Free)> {
        let mut ways = Vec::new();
        for (at, (first, last)) in self.gaps.iter().enumerate() {
            if last + 1 - first >= count {
                let mut free = self.clone();
                free.gaps[at].0 += count;
                ways.push((first + count - 1, free));
            }
        }
        let end = self.next + count - 1;
        ways.push((end, Free { next: end + 1, gaps: self.gaps.clone() }));
        ways
    }
}

struct Search<'a> {
    commits: &'a Commits<'a>,
    line: Vec<Item<'a>>,
    tries: u32,
    /// What the first order that was tried does not explain.
    wrong: Option<String>,
}

impl Search<'_> {
    /// Gives places to those of `unknown` that were seen, and to any of the others; returns whether an order explains everything.
    ///
    /// Those in the same gap stand in the order in which they are given their places, so each takes its turn to be the first.
    fn place(&mut self, unknown: &[(usize, bool)], free: &Free) -> bool {
        if !unknown.iter().any(|(_, seen)| *seen) && self.explains() {
            return true;
        }
        for turn in 0..unknown.len() {
            let mut rest = unknown.to_vec();
            let (at, _) = rest.remove(turn);
            let node = self.commits.node(at);
            for (seq, free) in free.ways(self.commits.history.commits[at].operations) {
                if self.tries >= ARRANGEMENTS_MAX {
                    return true;
                }
                self.line.push(Item { seq, reads_only: false, node: node.clone() });
                let found = self.place(&rest, &free);
                self.line.pop();
                if found {
                    return true;
                }
            }
        }
        false
    }

    fn explains(&mut self) -> bool {
        self.tries += 1;
        let mut order: Vec<&Item<'_>> = self.line.iter().collect();
        order.sort_by_key(|item| (item.seq, item.reads_only));
        let mut content = self.commits.history.base.clone();
        for item in order {
            if let Err(message) = item.node.reads.iter().try_for_each(|sight| same(&content, item, sight)) {
                self.wrong.get_or_insert(message);
                return false;
            }
            for (key, stamp) in item.node.writes {
                match stamp {
                    Some(stamp) => content.insert(*key, *stamp),
                    None => content.remove(key),
                };
            }
        }
        true
    }
}

fn same(content: &BTreeMap<KeyId, Stamp>, item: &Item<'_>, sight: &Sight) -> Result<(), String> {
    let expected = content.range(sight.start..sight.end.max(sight.start)).map(|(key, stamp)| (*key, *stamp));
    if expected.clone().eq(sight.found.iter().copied()) {
        return Ok(());
    }
    let expected: BTreeMap<KeyId, Stamp> = expected.collect();
    let found: BTreeMap<KeyId, Stamp> = sight.found.iter().copied().collect();
    let keys = (sight.start..sight.end).find(|key| expected.get(key) != found.get(key));
    let key = keys.unwrap_or(sight.start);
    let show = |of: &BTreeMap<KeyId, Stamp>| match of.get(&key) {
        Some(stamp) => format!("the value of step {}", stamp.step),
        None => "nothing".into(),
    };
    Err(format!(
        "{} committed as number {} and saw {} for key {key}; alone at its place it sees {}",
        item.node.name(),
        item.seq,
        show(&found),
        show(&expected)
    ))
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
        story.at_once(2, vec![saw(1, 1), range(0, 9, &[(1, 1), (2, 1)])], &[(1, false)]);
        let reader = story.begin(3, vec![range(0, 9, &[(2, 1)])]);
        story.read_only(reader, 3);
        assert_eq!(check(&story), Ok(()));
    }

    #[test]
    fn a_lost_update_fails() {
        let mut story = Story::default();
        let (a, b) = (story.begin(1, vec![saw(1, 0)]), story.begin(2, vec![saw(1, 0)]));
        story.commit(a, &[(1, true)]);
        story.commit(b, &[(1, true)]);
        assert!(check(&story).unwrap_err().contains("step 2"));
    }

    #[test]
    fn write_skew_fails() {
        let mut story = Story::default();
        let (a, b) = (story.begin(1, vec![saw(2, 0)]), story.begin(2, vec![saw(1, 0)]));
        story.commit(a, &[(1, true)]);
        story.commit(b, &[(2, true)]);
        assert!(check(&story).is_err());
    }

    #[test]
    fn a_phantom_fails() {
        let mut story = Story::default();
        let counter = story.begin(1, vec![range(0, 9, &[])]);
        story.at_once(2, vec![], &[(5, true)]);
        story.commit(counter, &[(20, true)]);
        assert!(check(&story).unwrap_err().contains("key 5"));
    }

    #[test]
    fn a_reader_at_the_wrong_moment_fails() {
        let mut story = Story::default();
        story.at_once(1, vec![], &[(1, true)]);
        story.at_once(2, vec![], &[(2, true)]);
        let reader = story.begin(3, vec![range(0, 9, &[(2, 2)])]);
        story.read_only(reader, 2);
        assert!(check(&story).is_err());
    }

    #[test]
    fn a_commit_without_an_answer_is_in_as_a_whole_or_out() {
        for (first, second, legal) in [(1, 1, true), (0, 0, true), (1, 0, false)] {
            let mut story = Story::default();
            let lost = story.begin(1, vec![]);
            story.unanswered(lost, &[(1, true), (2, true)], true);
            story.at_once(2, vec![saw(1, first), saw(2, second)], &[(3, true)]);
            assert_eq!(check(&story).is_ok(), legal, "{first} {second}");
        }
    }

    #[test]
    fn a_commit_without_an_answer_that_nobody_saw_may_have_deleted() {
        let mut story = Story::default();
        story.at_once(1, vec![], &[(1, true)]);
        let lost = story.begin(2, vec![]);
        story.unanswered(lost, &[(1, false)], true);
        story.at_once(3, vec![saw(1, 0)], &[(3, true)]);
        assert_eq!(check(&story), Ok(()));
        // It can only have done so where there are numbers for it.
        let mut story = Story::default();
        story.at_once(1, vec![], &[(1, true)]);
        let lost = story.begin(2, vec![]);
        story.unanswered(lost, &[(1, false)], false);
        story.at_once(3, vec![saw(1, 0)], &[(3, true)]);
        assert!(check(&story).is_err());
    }
}
