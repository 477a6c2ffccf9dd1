//! The laws of the memory, by a table of moments and against a memory that is slow and plain.

use proptest::prelude::*;

use super::*;
use crate::config::KeySource;

const TTL: Duration = Duration::from_secs(600);

fn rules(sessions_max: usize) -> StickySessions {
    StickySessions {
        enabled: true,
        idle_ttl: TTL,
        sessions_max,
        sources: vec![KeySource::SessionHeader],
        hashed_bytes_max: 512,
    }
}

fn key_of(number: u64) -> Key {
    Key {
        hash: number,
        source: KeySource::SessionHeader,
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Which of the keys 0 to 9 are remembered, without asking for them.
fn remembered(sessions: &Sessions) -> Vec<u64> {
    let inner = sessions.lock();
    (0..10)
        .filter(|key| inner.shelf.find(*key).is_some())
        .collect()
}

#[test]
fn a_session_is_what_was_noted_last() {
    let (sessions, rules) = (Sessions::default(), rules(10));
    assert_eq!(sessions.find(key_of(1), &rules, at(0)), None);
    sessions.note(key_of(1), NodeId(4), 100, &rules, at(0));
    sessions.note(key_of(2), NodeId(5), 7, &rules, at(0));
    sessions.note(key_of(1), NodeId(6), 180, &rules, at(1));
    let session = Session {
        idle: Duration::from_secs(1),
        node: NodeId(6),
        tokens: 180,
        pinned: true,
    };
    let before = sessions.figures(&rules, at(2));
    assert_eq!(sessions.peek(key_of(1), &rules, at(2)), Some(session));
    assert_eq!(sessions.peek(key_of(3), &rules, at(2)), None);
    let over = Duration::from_secs(2) + rules.idle_ttl;
    assert_eq!(sessions.peek(key_of(1), &rules, over), None);
    // Who only looks is not counted and keeps nothing young.
    assert_eq!(sessions.figures(&rules, at(2)), before);
    assert_eq!(sessions.find(key_of(1), &rules, at(2)), Some(session));
    let off = StickySessions {
        enabled: false,
        ..rules.clone()
    };
    let loose = Session {
        pinned: false,
        ..session
    };
    assert_eq!(sessions.find(key_of(1), &off, at(3)), Some(loose));
    let figures = Figures {
        active: 2,
        insertions: 2,
        hits: 2,
        misses: 1,
        repins: 1,
        evictions: 0,
    };
    assert_eq!(sessions.figures(&rules, at(3)), figures);
}

#[test]
fn the_time_to_live_slides_with_every_use() {
    let (sessions, rules) = (Sessions::default(), rules(10));
    sessions.note(key_of(1), NodeId(0), 1, &rules, at(0));
    assert!(sessions.find(key_of(1), &rules, at(600)).is_some());
    assert!(sessions.find(key_of(1), &rules, at(1200)).is_some());
    sessions.note(key_of(1), NodeId(0), 1, &rules, at(1700));
    assert!(sessions.find(key_of(1), &rules, at(2300)).is_some());
    assert!(sessions.find(key_of(1), &rules, at(2901)).is_none());
    let figures = sessions.figures(&rules, at(2901));
    assert_eq!((figures.active, figures.evictions), (0, 1));
}

#[test]
fn a_shorter_time_to_live_holds_for_what_is_there() {
    let (sessions, rules) = (Sessions::default(), rules(10));
    sessions.note(key_of(1), NodeId(0), 1, &rules, at(0));
    let shorter = StickySessions {
        idle_ttl: at(5),
        ..rules
    };
    assert_eq!(sessions.find(key_of(1), &shorter, at(6)), None);
}

#[test]
fn the_one_not_used_for_the_longest_time_makes_room() {
    let (sessions, rules) = (Sessions::default(), rules(3));
    for key in 0..3 {
        sessions.note(key_of(key), NodeId(0), 1, &rules, at(key));
    }
    sessions.find(key_of(0), &rules, at(3));
    sessions.note(key_of(3), NodeId(0), 1, &rules, at(4));
    assert_eq!(remembered(&sessions), [0, 2, 3]);
    sessions.note(key_of(2), NodeId(0), 1, &rules, at(5));
    sessions.note(key_of(4), NodeId(0), 1, &rules, at(6));
    assert_eq!(remembered(&sessions), [2, 3, 4]);
    // A reload may leave room for fewer.
    sessions.note(key_of(5), NodeId(0), 1, &self::rules(1), at(7));
    assert_eq!(remembered(&sessions), [5]);
    assert_eq!(sessions.figures(&rules, at(7)).evictions, 5);
}

#[test]
fn what_a_node_had_is_forgotten_when_it_leaves() {
    let (sessions, rules) = (Sessions::default(), rules(10));
    for key in 0..6 {
        sessions.note(key_of(key), NodeId(key as usize % 3), 1, &rules, at(0));
    }
    sessions.keep(|node| node != NodeId(1));
    assert_eq!(remembered(&sessions), [0, 2, 3, 5]);
    sessions.keep(|node| node != NodeId(2) && node != NodeId(0));
    assert_eq!(remembered(&sessions), Vec::<u64>::new());
    assert_eq!(sessions.figures(&rules, at(0)).evictions, 6);
}

#[test]
fn one_request_clears_away_no_more_than_a_few() {
    let (sessions, rules) = (Sessions::default(), rules(100));
    for key in 0..50 {
        sessions.note(key_of(key), NodeId(0), 1, &rules, at(0));
    }
    assert_eq!(sessions.find(key_of(49), &rules, at(1000)), None);
    assert_eq!(sessions.lock().shelf.len(), 50 - CLEARED_AT_ONCE_MAX);
    assert_eq!(sessions.figures(&rules, at(1000)).active, 0);
}

/// A use of the memory.
#[derive(Debug, Clone, Copy)]
enum Step {
    Find(u64),
    Note(u64, usize),
    Leave(usize),
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u64..10).prop_map(Step::Find),
        6 => (0_u64..10, 0_usize..3).prop_map(|(key, node)| Step::Note(key, node)),
        1 => (0_usize..3).prop_map(Step::Leave),
        2 => (1_u64..500).prop_map(Step::Wait),
    ]
}

/// The same in the plainest way: key, node and last use, the oldest first.
#[derive(Default)]
struct Plain(Vec<(u64, usize, Duration)>);

impl Plain {
    fn take(&mut self, key: u64) -> Option<(u64, usize, Duration)> {
        let place = self.0.iter().position(|(other, ..)| *other == key)?;
        Some(self.0.remove(place))
    }
}

proptest! {
    #[test]
    fn it_remembers_what_a_plain_list_would(
        steps in prop::collection::vec(any_step(), 1..120),
        most in 1_usize..6,
    ) {
        let (sessions, rules, mut plain) = (Sessions::default(), rules(most), Plain::default());
        let mut now = Duration::ZERO;
        for step in steps {
            plain.0.retain(|(.., used_at)| now.saturating_sub(*used_at) <= TTL);
            match step {
                Step::Find(key) => {
                    let found = sessions.find(key_of(key), &rules, now).map(|session| session.node.0);
                    let expected = plain.take(key);
                    plain.0.extend(expected.map(|(key, node, _)| (key, node, now)));
                    prop_assert_eq!(found, expected.map(|(_, node, _)| node));
                }
                Step::Note(key, node) => {
                    sessions.note(key_of(key), NodeId(node), 1, &rules, now);
                    if plain.take(key).is_none() && plain.0.len() == most {
                        plain.0.remove(0);
                    }
                    plain.0.push((key, node, now));
                }
                Step::Leave(node) => {
                    sessions.keep(|other| other != NodeId(node));
                    plain.0.retain(|(_, other, _)| *other != node);
                }
                Step::Wait(seconds) => now += at(seconds),
            }
            plain.0.retain(|(.., used_at)| now.saturating_sub(*used_at) <= TTL);
            let figures = sessions.figures(&rules, now);
            prop_assert!(figures.active <= most);
            prop_assert_eq!(figures.active as u64, figures.insertions - figures.evictions);
            let mut expected: Vec<u64> = plain.0.iter().map(|(key, ..)| *key).collect();
            expected.sort_unstable();
            prop_assert_eq!(remembered(&sessions), expected);
        }
    }
}
