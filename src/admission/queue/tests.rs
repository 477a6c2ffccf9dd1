//! Turns, rounds and bounds of the queue, as tables and as laws.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    length_max: 1000,
    swap_age_max: Duration::from_secs(10),
    background_age_max: Duration::from_secs(30),
    wait_max: Duration::from_secs(60),
};
const NOW: Duration = Duration::from_secs(100);

/// A request for a model, of a tenant.
fn wish(tenant: u64, line: &'static str, tokens: u64) -> Wish<&'static str> {
    let claim = Claim {
        tenant: Tenant(tenant),
        class: Class::Interactive,
    };
    Wish {
        claim,
        line,
        tokens,
    }
}

fn background(wish: Wish<&'static str>) -> Wish<&'static str> {
    let claim = Claim {
        class: Class::Background,
        ..wish.claim
    };
    Wish { claim, ..wish }
}

type Jobs = Queue<&'static str, &'static str>;

/// Who is placed, in order, when so many slots are free and these models are in no node's memory.
fn placed(queue: &mut Jobs, now: Duration, mut slots: usize, cold: &[&str]) -> Vec<&'static str> {
    let mut order = Vec::new();
    queue.dispatch(now, |job, chance| {
        let model = job.split('-').next().unwrap();
        if slots == 0 || (cold.contains(&model) && !chance.may_swap) {
            return Tried::Later;
        }
        if !chance.may_take {
            return Tried::Could;
        }
        slots -= 1;
        order.push(*job);
        Tried::Placed(0)
    });
    order
}

#[test]
fn one_tenant_is_served_first_come_first_served() {
    let mut queue = Jobs::new(LIMITS);
    for job in ["llama-1", "llama-2", "qwen-3", "llama-4"] {
        let line = if job.starts_with("qwen") {
            "qwen"
        } else {
            "llama"
        };
        queue.enter(wish(1, line, 300), job, NOW);
    }
    assert_eq!(placed(&mut queue, NOW, 1, &[]), ["llama-1"]);
    assert_eq!(placed(&mut queue, NOW, 2, &[]), ["llama-2", "qwen-3"]);
    assert_eq!(placed(&mut queue, NOW, 9, &[]), ["llama-4"]);
    assert!(queue.is_empty() && placed(&mut queue, NOW, 9, &[]).is_empty());
}

#[test]
fn who_needs_a_swap_lets_others_pass_until_it_has_waited_too_long() {
    let mut queue = Jobs::new(LIMITS);
    queue.enter(wish(1, "qwen", 300), "qwen-1", NOW);
    for job in ["llama-2", "llama-3", "llama-4"] {
        queue.enter(wish(1, "llama", 300), job, NOW + Duration::from_secs(5));
    }
    let at = |seconds| NOW + Duration::from_secs(seconds);
    assert_eq!(placed(&mut queue, at(6), 1, &["qwen"]), ["llama-2"]);
    assert_eq!(placed(&mut queue, at(9), 1, &["qwen"]), ["llama-3"]);
    assert_eq!(placed(&mut queue, at(10), 1, &["qwen"]), ["qwen-1"]);
    // A slot that nobody else wants is not kept from it.
    queue.enter(wish(1, "qwen", 300), "qwen-5", at(10));
    assert_eq!(
        placed(&mut queue, at(10), 2, &["qwen"]),
        ["llama-4", "qwen-5"]
    );
}

#[test]
fn background_work_waits_for_interactive_work_but_not_for_ever() {
    let mut queue = Jobs::new(LIMITS);
    queue.enter(background(wish(1, "llama", 1000)), "llama-title", NOW);
    queue.enter(wish(2, "llama", 1000), "llama-1", NOW);
    queue.enter(wish(2, "llama", 1000), "llama-2", NOW);
    assert_eq!(placed(&mut queue, NOW, 1, &[]), ["llama-1"]);
    let late = NOW + Duration::from_secs(30);
    queue.enter(wish(2, "llama", 1000), "llama-3", late);
    let order = placed(&mut queue, late, 3, &[]);
    assert_ne!(order[2], "llama-title", "it competes as if somebody waited");
}

#[test]
fn a_full_queue_turns_away_background_work_and_then_whoever_has_most_in_it() {
    let limits = Limits {
        length_max: 3,
        ..LIMITS
    };
    let mut queue = Jobs::new(limits);
    let came = |queue: &mut Jobs, wish, job| {
        let ticket = queue.enter(wish, job, NOW);
        queue.make_room(ticket)
    };
    let llama = |tenant| wish(tenant, "llama", 100);
    assert_eq!(came(&mut queue, llama(1), "flood-1"), None);
    assert_eq!(came(&mut queue, background(llama(2)), "title"), None);
    assert_eq!(came(&mut queue, llama(1), "flood-2"), None);
    assert_eq!(came(&mut queue, llama(1), "flood-3"), Some("title"));
    assert_eq!(came(&mut queue, llama(1), "flood-4"), Some("flood-4"));
    assert_eq!(came(&mut queue, llama(3), "light"), Some("flood-3"));
    assert_eq!(
        came(&mut queue, background(llama(4)), "title"),
        Some("title")
    );
    assert_eq!(queue.len(), 3);
}

#[test]
fn who_is_turned_away_is_told_when_the_queue_will_have_moved() {
    let mut queue = Jobs::new(LIMITS);
    assert_eq!(queue.retry_after_s(), 5, "nothing is known yet");
    for _ in 0..20 {
        queue.enter(wish(1, "llama", 100), "llama", NOW);
    }
    for second in 0..10 {
        let now = NOW + Duration::from_secs(2 * second);
        assert_eq!(placed(&mut queue, now, 1, &[]).len(), 1);
    }
    assert_eq!(queue.retry_after_s(), 22, "eleven, one every two seconds");
}

#[test]
fn what_was_used_beyond_the_estimate_is_paid_later() {
    let mut queue = Jobs::new(LIMITS);
    for _ in 0..40 {
        queue.enter(wish(1, "llama", 500), "llama-greedy", NOW);
        queue.enter(wish(2, "llama", 500), "llama-modest", NOW);
    }
    let mut counts: HashMap<&str, u32> = HashMap::new();
    for _ in 0..40 {
        for job in placed(&mut queue, NOW, 1, &[]) {
            *counts.entry(job).or_default() += 1;
            if job == "llama-greedy" {
                let claim = wish(1, "llama", 0).claim;
                queue.settle(claim, 500, 1500); // three times what it said
            }
        }
    }
    let (greedy, modest) = (counts["llama-greedy"], counts["llama-modest"]);
    assert!(
        (9..=11).contains(&greedy) && greedy + modest == 40,
        "a quarter of the requests is half of the tokens: {counts:?}"
    );
}

#[test]
fn a_burst_may_wait_and_overload_is_turned_away_early() {
    let mut queue = Jobs::new(LIMITS);
    let at = |seconds| NOW + Duration::from_secs(seconds);
    let llama = || wish(1, "llama", 100);
    queue.enter(llama(), "llama-1", at(0));
    queue.enter(wish(1, "qwen", 100), "qwen-2", at(30));
    assert!(queue.expire(at(59)).is_empty());
    queue.enter(llama(), "llama-3", at(55));
    assert_eq!(queue.expire(at(60)), [("llama-1", Duration::from_secs(60))]);
    // Somebody has stood there for a minute now: twenty seconds are enough.
    assert_eq!(queue.expire(at(75)), [("llama-3", Duration::from_secs(20))]);
    assert!(
        queue.expire(at(80)).is_empty(),
        "another line is another line"
    );
    queue.enter(llama(), "llama-4", at(80));
    assert_eq!(queue.expire(at(90)), [("qwen-2", Duration::from_secs(60))]);
    assert!(queue.expire(at(110)).is_empty(), "it was empty in between");
}

/// One step of a queue's life.
#[derive(Debug, Clone)]
enum Step {
    Enter(u64, usize, u64, bool),
    Leave(prop::sample::Index),
    Slots(usize, bool),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let enter = (0..5_u64, 0..3_usize, 0..40_000_u64, any::<bool>());
    let step = prop_oneof![
        4 => enter.prop_map(|(tenant, line, tokens, is_background)| Step::Enter(tenant, line, tokens, is_background)),
        1 => any::<prop::sample::Index>().prop_map(Step::Leave),
        2 => (0..4_usize, any::<bool>()).prop_map(|(count, cold)| Step::Slots(count, cold)),
        1 => (0..20_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..200)
}

#[test]
fn a_flood_of_small_requests_keeps_nobody_waiting() {
    let mut queue = Jobs::new(LIMITS);
    for _ in 0..200 {
        queue.enter(wish(1, "llama", 260), "llama-flood", NOW);
    }
    for _ in 0..20 {
        assert_eq!(placed(&mut queue, NOW, 1, &[]), ["llama-flood"]);
        // It took next to nothing; nothing is saved up for that.
        queue.settle(wish(1, "llama", 0).claim, 260, 4);
    }
    queue.enter(wish(2, "llama", 260), "llama-light", NOW);
    let next = placed(&mut queue, NOW, 2, &[]);
    assert!(next.contains(&"llama-light"), "{next:?}");
}

#[test]
fn overload_turns_away_those_who_make_it() {
    let mut queue = Jobs::new(LIMITS);
    let at = |seconds| NOW + Duration::from_secs(seconds);
    queue.enter(wish(1, "llama", 100), "llama-first", at(0));
    for _ in 0..9 {
        queue.enter(wish(1, "llama", 100), "llama-flood", at(40));
    }
    queue.enter(wish(2, "llama", 100), "llama-light", at(40));
    let late: Vec<&str> = queue.expire(at(62)).iter().map(|(job, _)| *job).collect();
    assert_eq!(late.len(), 10);
    assert!(!late.contains(&"llama-light"));
    assert_eq!(queue.expire(at(100)).len(), 1, "nobody waits for ever");
}

/// Who is placed, turned away or let go in these steps, in order.
fn order(steps: &[Step]) -> Vec<usize> {
    let lines = ["llama", "qwen", "gemma"];
    let limits = Limits {
        length_max: 10,
        ..LIMITS
    };
    let mut queue: Queue<&str, usize> = Queue::new(limits);
    let (mut now, mut order) = (NOW, Vec::new());
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Enter(tenant, line, tokens, _) => {
                let ticket = queue.enter(wish(*tenant, lines[*line], *tokens), at, now);
                order.extend(queue.make_room(ticket));
            }
            Step::Pass(seconds) => {
                now += Duration::from_secs(*seconds);
                order.extend(queue.expire(now).into_iter().map(|(job, _)| job));
            }
            Step::Slots(slots, _) => {
                let mut slots = *slots;
                queue.dispatch(now, |job, chance| match (slots, chance.may_take) {
                    (0, _) => Tried::Later,
                    (_, false) => Tried::Could,
                    (_, true) => {
                        slots -= 1;
                        order.push(*job);
                        Tried::Placed(0)
                    }
                });
            }
            Step::Leave(_) => (),
        }
    }
    order
}

proptest! {
    #[test]
    fn nobody_is_lost_or_placed_twice_and_the_bounds_hold(steps in steps()) {
        let lines = ["llama", "qwen", "gemma"];
        let limits = Limits { length_max: 20, ..LIMITS };
        let mut queue: Queue<&str, usize> = Queue::new(limits);
        let (mut now, mut waiting, mut count) = (NOW, Vec::<(Ticket, usize)>::new(), 0);
        for step in steps {
            match step {
                Step::Enter(tenant, line, tokens, is_background) => {
                    let mut wish = wish(tenant, lines[line], tokens);
                    if is_background {
                        wish = background(wish);
                    }
                    count += 1;
                    let ticket = queue.enter(wish, count, now);
                    waiting.push((ticket, count));
                    if let Some(displaced) = queue.make_room(ticket) {
                        waiting.retain(|(_, job)| *job != displaced);
                    }
                }
                Step::Leave(which) if !waiting.is_empty() => {
                    let (ticket, job) = waiting.swap_remove(which.index(waiting.len()));
                    prop_assert_eq!(queue.leave(ticket), Some(job));
                    prop_assert_eq!(queue.leave(ticket), None);
                }
                Step::Leave(_) => (),
                Step::Pass(seconds) => now += Duration::from_secs(seconds),
                Step::Slots(mut slots, is_cold) => {
                    let mut placed = Vec::new();
                    queue.dispatch(now, |job, chance| {
                        assert!(!placed.contains(job), "looked at after it was placed");
                        match () {
                            () if slots == 0 || (is_cold && !chance.may_swap) => Tried::Later,
                            () if !chance.may_take => Tried::Could,
                            () => {
                                slots -= 1;
                                placed.push(*job);
                                Tried::Placed(0)
                            }
                        }
                    });
                    prop_assert!(slots == 0 || queue.is_empty(), "a free slot is never left while somebody waits");
                    for job in placed {
                        let before = waiting.len();
                        waiting.retain(|(_, known)| *known != job);
                        prop_assert_eq!(waiting.len() + 1, before);
                    }
                }
            }
            prop_assert_eq!(queue.len(), waiting.len());
            prop_assert!(queue.len() <= 20);
            let standing: u32 = queue.lines().map(|(_, count)| count).sum();
            prop_assert_eq!(standing as usize, waiting.len());
        }
    }

    #[test]
    fn the_same_requests_are_placed_in_the_same_order(steps in steps()) {
        prop_assert_eq!(order(&steps), order(&steps));
    }

    #[test]
    fn tokens_are_shared_evenly_whatever_requests_cost(costs in prop::collection::vec(1..16_000_u64, 4)) {
        let mut queue: Queue<&str, usize> = Queue::new(LIMITS);
        let mut used = [0_u64; 4];
        for (tenant, cost) in costs.iter().enumerate() {
            for _ in 0..2 {
                queue.enter(wish(tenant as u64, "llama", *cost), tenant, NOW);
            }
        }
        for _ in 0..2000 {
            let mut is_free = true;
            let mut served = None;
            queue.dispatch(NOW, |tenant, chance| match (is_free, chance.may_take) {
                (false, _) => Tried::Later,
                (true, false) => Tried::Could,
                (true, true) => {
                    is_free = false;
                    served = Some(*tenant);
                    Tried::Placed(0)
                }
            });
            let tenant = served.expect("somebody always waits");
            used[tenant] += costs[tenant];
            queue.enter(wish(tenant as u64, "llama", costs[tenant]), tenant, NOW);
        }
        let (least, most) = (used.iter().min().unwrap(), used.iter().max().unwrap());
        // Nobody is ahead by more than a request and a round.
        prop_assert!(most - least <= 2 * 16_000 + 2000, "{used:?}");
    }

    #[test]
    fn nobody_starves(tenants in 2..20_u64, cost in 1..16_000_u64) {
        let mut queue: Queue<&str, u64> = Queue::new(LIMITS);
        queue.enter(wish(0, "llama", cost), 0, NOW);
        for tenant in 1..tenants {
            queue.enter(wish(tenant, "llama", 100), tenant, NOW);
        }
        // The others come again at once each time; one slot is freed at a time.
        for turn in 0.. {
            let mut served = None;
            queue.dispatch(NOW, |tenant, chance| match (served, chance.may_take) {
                (Some(_), _) => Tried::Later,
                (None, false) => Tried::Could,
                (None, true) => {
                    served = Some(*tenant);
                    Tried::Placed(0)
                }
            });
            match served.expect("somebody always waits") {
                0 => break,
                tenant => queue.enter(wish(tenant, "llama", 100), tenant, NOW),
            };
            // Whenever one of the others is served it gets as much as that.
            prop_assert!(turn <= (cost / 100 + 1) * (tenants - 1), "{turn}");
        }
    }
}
