use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use gristmill_messages::Incarnation;

use super::*;
use crate::membership::{Input as Heard, Membership, Message, Record, Stage, Verdict};
use crate::{Member, RequestId};

const LAN: membership::Config = membership::Config::lan();

fn id(member: u128) -> MemberId {
    MemberId::new(member)
}

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_millis(milliseconds)
}

struct Machine {
    downing: Downing,
    out: Outbox,
    /// Without timers.
    done: Vec<Effect>,
    timer: TimerEpoch,
}

impl Machine {
    /// Node 1, which knows of nobody yet.
    fn new(config: Config) -> Self {
        let downing = Downing::new(config, LAN, id(1));
        Self { downing, out: Outbox::new(), done: vec![], timer: TimerEpoch::default() }
    }

    /// Node 1 of `count`, in a view that has settled; the clock is at ten seconds.
    fn settled(config: Config, count: u128) -> Self {
        let mut machine = Self::new(config);
        machine.observe(0, count, &[]);
        machine.answer(10_000, count, &[]);
        machine.effects();
        machine
    }

    /// All are up but those named.
    fn observe(&mut self, now: u64, count: u128, other: &[(u128, Standing)]) {
        let standing = |member| other.iter().find(|(id, _)| *id == member).map_or(Standing::Up, |(_, to)| *to);
        let members = (1..=count).map(|member| Observed { id: id(member), standing: standing(member) }).collect();
        self.handle(now, Input::Observed(members));
    }

    /// All answer but those named.
    fn answer(&mut self, now: u64, count: u128, but: &[u128]) {
        for member in (2..=count).filter(|member| !but.contains(member)) {
            self.handle(now, Input::Answered { member: id(member) });
        }
    }

    /// Half a second at a time until then, in which all answer but those named.
    fn run(&mut self, from: u64, until: u64, count: u128, but: &[u128]) {
        for now in (from..=until).step_by(500) {
            self.answer(now, count, but);
            self.fire(now);
        }
    }

    /// The timer that is set now fires.
    fn fire(&mut self, now: u64) {
        self.handle(now, Input::Timer(self.timer));
    }

    fn handle(&mut self, now: u64, input: Input) {
        self.downing.handle(at(now), input, &mut self.out);
        for effect in self.out.drain_effects() {
            match effect {
                Effect::SetTimer(timer) => self.timer = timer.epoch,
                effect => self.done.push(effect),
            }
        }
    }

    fn effects(&mut self) -> Vec<Effect> {
        core::mem::take(&mut self.done)
    }

    fn decisions(&mut self) -> Vec<DowningDecision> {
        self.out.drain_events().map(|Event::Decided(decision)| decision).collect()
    }
}

fn poll(members: impl IntoIterator<Item = u128>) -> Effect {
    Effect::Poll { members: members.into_iter().map(MemberId::new).collect() }
}

#[test]
fn one_unreachable_member_of_three_is_released_after_suspicion_stability_and_margin() {
    let mut machine = Machine::settled(Config::default(), 3);
    machine.observe(10_000, 3, &[(3, Standing::Suspect)]);
    assert_eq!(machine.effects(), [poll([2, 3])]);
    machine.run(10_500, 13_500, 3, &[3]);
    machine.observe(14_000, 3, &[(3, Standing::Dead)]);
    assert!(machine.downing.holds(id(3)), "it is dead and keeps its keys");
    machine.run(14_000, 18_000, 3, &[3]);
    machine.observe(18_499, 3, &[(3, Standing::Dead)]);
    assert_eq!(machine.decisions(), []);
    machine.effects();
    machine.fire(18_500);
    let released = Effect::Release { members: vec![id(3)] };
    assert!(machine.effects().contains(&released));
    assert!(!machine.downing.holds(id(3)));
    let decision = DowningDecision {
        at: at(18_500),
        strategy: Strategy::KeepMajority,
        cause: Cause::Stable,
        chosen: Side::This,
        baseline: vec![id(1), id(2), id(3)],
        latest: vec![id(1), id(2), id(3)],
        reachable: vec![id(1), id(2)],
        unreachable: vec![id(3)],
        silent: vec![],
        indirectly_connected: vec![],
        gone: vec![],
        since: Some(at(10_000)),
    };
    assert_eq!(machine.decisions(), core::slice::from_ref(&decision));
    assert_eq!(machine.downing.decisions().collect::<Vec<_>>(), [&decision]);
}

#[test]
fn whose_host_refuses_is_released_at_once_although_it_was_dead_before() {
    let mut machine = Machine::settled(Config::default(), 3);
    machine.observe(10_000, 3, &[(3, Standing::Suspect)]);
    machine.observe(11_000, 3, &[(3, Standing::Dead)]);
    assert!(machine.downing.holds(id(3)));
    machine.effects();
    machine.handle(11_500, Input::Refused { member: id(3) });
    assert!(machine.effects().contains(&Effect::Release { members: vec![id(3)] }));
    machine.handle(11_600, Input::Refused { member: id(3) });
    assert!(!machine.effects().iter().any(|effect| matches!(effect, Effect::Release { .. })), "once");
    assert_eq!(machine.decisions(), []);
}

#[test]
fn a_node_that_has_lost_the_others_is_restrained_at_once_and_fenced_when_that_lasts() {
    let mut machine = Machine::settled(Config::default(), 3);
    machine.observe(10_000, 3, &[(2, Standing::Suspect), (3, Standing::Suspect)]);
    assert!(machine.effects().contains(&Effect::Restrain(true)));
    machine.fire(11_999);
    assert!(!machine.effects().contains(&Effect::Fence));
    machine.fire(12_000);
    assert_eq!(machine.effects(), [Effect::Fence]);
    let decisions = machine.decisions();
    assert_eq!(decisions.len(), 1);
    assert_eq!((decisions[0].cause, decisions[0].chosen), (Cause::Losing, Side::Other));
    machine.observe(12_001, 3, &[]);
    assert!(machine.downing.is_fenced() && machine.effects().is_empty(), "nothing comes after the end");
}

#[test]
fn a_node_that_hears_nothing_fences_before_it_suspects_anybody() {
    let mut machine = Machine::settled(Config::default(), 3);
    machine.fire(12_500);
    assert_eq!(machine.effects(), [poll([2, 3])], "two probe intervals and a timeout without an answer");
    machine.fire(13_000);
    machine.fire(13_500);
    assert_eq!(machine.effects(), [poll([2, 3]), poll([2, 3])]);
    machine.fire(14_000);
    assert_eq!(machine.effects(), [Effect::Restrain(true), poll([2, 3])]);
    machine.fire(15_999);
    machine.effects();
    machine.fire(16_000);
    assert_eq!(machine.effects(), [Effect::Fence]);
    assert_eq!(machine.decisions()[0].silent, [id(2), id(3)]);
}

#[test]
fn who_answers_again_takes_the_fence_back() {
    let mut machine = Machine::settled(Config::default(), 3);
    machine.observe(10_000, 3, &[(2, Standing::Suspect), (3, Standing::Suspect)]);
    machine.effects();
    machine.observe(11_900, 3, &[(3, Standing::Suspect)]);
    assert!(machine.effects().contains(&Effect::Restrain(false)));
    machine.fire(12_500);
    assert!(!machine.effects().contains(&Effect::Fence));
}

#[test]
fn who_is_gone_for_sure_holds_nothing_and_counts_on_no_side() {
    let mut machine = Machine::settled(Config::default(), 3);
    machine.handle(10_000, Input::Refused { member: id(2) });
    machine.observe(10_000, 3, &[(2, Standing::Suspect), (3, Standing::Gone)]);
    assert_eq!(machine.effects(), [], "alone for good reasons");
    machine.observe(14_000, 3, &[(2, Standing::Dead), (3, Standing::Gone)]);
    assert!(!machine.downing.holds(id(2)) && !machine.downing.holds(id(3)));
    machine.fire(30_000);
    assert!(!machine.downing.is_fenced());
    assert_eq!(machine.decisions(), []);
}

#[test]
fn a_quorum_goes_on_only_where_so_many_have_settled() {
    // The founder, whom two others have joined just now, and a third one that is lost.
    let young = |strategy| {
        let mut machine = Machine::settled(strategy, 1);
        machine.observe(9_000, 4, &[]);
        machine.observe(10_000, 4, &[(4, Standing::Suspect)]);
        machine.run(10_500, 13_500, 4, &[4]);
        machine
    };
    assert!(young(Config::static_quorum(3)).downing.is_fenced());
    assert!(!young(Config::default()).downing.is_fenced());
}

// Those who were cut off return under new ids, count each other, and may form the cluster anew.
#[test]
fn a_process_that_begins_anew_at_an_address_counts_in_the_place_of_its_predecessor() {
    let replaced = (3, Standing::Replaced { by: id(4) });
    let lost = |four: Standing| {
        let mut machine = Machine::settled(Config::default(), 3);
        machine.handle(10_000, Input::Refused { member: id(3) });
        machine.observe(10_000, 4, &[replaced]);
        machine.observe(11_000, 4, &[replaced, (2, Standing::Suspect), (4, four)]);
        machine.run(11_500, 16_000, 4, &[2, 4]);
        machine
    };
    assert!(lost(Standing::Suspect).downing.is_fenced(), "one of three");
    let mut machine = lost(Standing::Gone);
    assert!(!machine.downing.is_fenced(), "the older of two");
    machine.observe(17_000, 4, &[(2, Standing::Dead), (3, Standing::Dead), (4, Standing::Gone)]);
    assert!(!machine.downing.holds(id(3)), "it has ended, even when it is forgotten why");
}

#[test]
fn who_has_ended_has_ended_even_when_its_successor_is_dead_too() {
    let mut machine = Machine::settled(Config::default(), 4);
    machine.observe(10_000, 4, &[(4, Standing::Dead)]);
    machine.observe(10_100, 5, &[(4, Standing::Gone)]);
    machine.observe(10_200, 5, &[(4, Standing::Dead), (5, Standing::Dead)]);
    assert!(!machine.downing.holds(id(4)) && machine.downing.holds(id(5)));
}

#[test]
fn whom_a_node_never_knew_alive_is_held_for_a_takeover_and_counts_on_no_side() {
    let mut machine = Machine::settled(Config::default(), 1);
    machine.observe(10_000, 5, &[(3, Standing::Dead), (4, Standing::Dead), (5, Standing::Dead)]);
    assert!(machine.downing.holds(id(3)), "those who know may not have released it");
    machine.run(10_000, 18_000, 5, &[3, 4, 5]);
    assert_eq!(machine.effects(), []);
    machine.run(18_500, 60_000, 5, &[3, 4, 5]);
    assert_eq!(machine.effects(), [Effect::Release { members: vec![id(3), id(4), id(5)] }]);
    assert!(!machine.downing.holds(id(3)) && !machine.downing.is_fenced());
    assert_eq!(machine.decisions(), [], "nothing was to be decided");
}

#[test]
fn a_winner_has_the_silent_checked_eight_at_a_time_until_they_answer_and_a_loser_accuses_nobody() {
    let silent: Vec<_> = (10..=19).collect();
    let mut machine = Machine::settled(Config::default(), 30);
    machine.observe(10_000, 30, &[(30, Standing::Suspect)]);
    let checks = |machine: &mut Machine| -> Vec<_> {
        machine.effects().into_iter().filter(|effect| matches!(effect, Effect::Check { .. })).collect()
    };
    machine.run(10_500, 11_000, 30, &silent);
    assert_eq!(checks(&mut machine), []);
    machine.run(11_500, 11_500, 30, &silent);
    assert_eq!(checks(&mut machine), [Effect::Check { members: (10..18).map(id).collect() }]);
    machine.run(12_000, 12_000, 30, &silent);
    assert_eq!(checks(&mut machine), [Effect::Check { members: vec![id(18), id(19)] }]);
    machine.answer(12_200, 30, &[]);
    machine.run(12_500, 12_500, 30, &silent);
    assert_eq!(checks(&mut machine), []);

    let mut machine = Machine::settled(Config::default(), 5);
    machine.observe(10_000, 5, &[(5, Standing::Suspect)]);
    machine.run(10_500, 13_000, 5, &[3, 4, 5]);
    assert_eq!(checks(&mut machine), []);
}

#[test]
fn who_does_not_answer_and_is_reached_by_another_is_not_lost() {
    let mut machine = Machine::settled(Config::default(), 5);
    machine.observe(10_000, 5, &[(5, Standing::Suspect)]);
    for now in (10_500..=18_500).step_by(500) {
        machine.handle(now, Input::Vouched { member: id(3) });
        machine.run(now, now, 5, &[3, 4, 5]);
    }
    let decisions = machine.decisions();
    assert_eq!(decisions.len(), 1);
    assert_eq!((decisions[0].chosen, &decisions[0].reachable), (Side::This, &vec![id(1), id(2), id(3), id(4)]));
    assert_eq!((&decisions[0].silent, &decisions[0].indirectly_connected), (&vec![id(4)], &vec![id(3)]));
}

/// Suspicions by hearsay, of members that this node reaches.
#[test]
fn who_answers_is_lost_to_nobody_however_it_is_suspected() {
    let accused = [2, 3, 4].map(|member| (member, Standing::Suspect));
    let mut machine = Machine::settled(Config::default(), 5);
    machine.observe(10_000, 5, &accused);
    for now in (10_000..30_000).step_by(500) {
        machine.answer(now + 1, 5, &[]);
        // Refuted, and suspected anew at once: it still answers.
        machine.observe(now + 200, 5, &[]);
        machine.observe(now + 300, 5, &accused);
        assert!(machine.downing.unreachable.is_empty());
        machine.fire(now + 500);
    }
    let done = machine.effects();
    assert!(!done.contains(&Effect::Fence) && !done.iter().any(|effect| matches!(effect, Effect::Release { .. })));
    assert_eq!(done.iter().filter(|effect| matches!(effect, Effect::Restrain(true))).count(), 1, "before they answer");
    assert_eq!(done.iter().filter(|effect| matches!(effect, Effect::Poll { .. })).count(), 41, "they are watched");
}

#[test]
fn a_suspect_that_answers_no_more_is_lost_when_it_has_left_three_questions_unanswered() {
    let mut machine = Machine::settled(Config::default(), 3);
    machine.observe(10_000, 3, &[(2, Standing::Suspect), (3, Standing::Suspect)]);
    machine.answer(10_001, 3, &[]);
    machine.effects();
    machine.run(10_500, 11_500, 3, &[2, 3]);
    assert!(!machine.effects().contains(&Effect::Restrain(true)));
    machine.fire(12_000);
    assert!(machine.effects().contains(&Effect::Restrain(true)));
    machine.fire(13_999);
    assert!(!machine.downing.is_fenced());
    machine.fire(14_000);
    assert!(machine.downing.is_fenced());
}

// It hears the others, and they do not hear it: its own probes are slow by now, and it has no doubt of anybody.
#[test]
fn who_is_told_that_it_is_suspected_finds_out_that_it_has_lost() {
    for accused in [false, true] {
        let mut machine = Machine::settled(Config::keep_majority(), 5);
        machine.answer(10_000, 5, &[]);
        if accused {
            machine.handle(10_000, Input::Accused);
        }
        machine.run(10_500, 16_500, 5, &[2, 3, 4]);
        assert_eq!(machine.downing.is_fenced(), accused);
    }
}

// A mute node hears the others suspect each other, and refute that.
#[test]
fn refutations_that_a_node_hears_keep_it_serving_no_longer_than_silence_allows() {
    let mut machine = Machine::settled(Config::default(), 5);
    // Asked for the third time at 11 s.
    for now in (10_000..13_000).step_by(500) {
        machine.observe(now, 5, &[2, 3, 4, 5].map(|member| (member, Standing::Suspect)));
        machine.observe(now + 100, 5, &[]);
    }
    machine.observe(12_999, 5, &[]);
    assert!(!machine.downing.is_fenced());
    machine.fire(13_000);
    assert!(machine.downing.is_fenced());
}

// One still answers it, so that it is not quiet, and its probes are slow from the first trouble.
#[test]
fn who_has_just_had_others_back_finds_out_that_it_loses_them_again() {
    for troubled in [false, true] {
        let mut machine = Machine::settled(Config::default(), 5);
        if troubled {
            machine.observe(10_000, 5, &[(5, Standing::Suspect)]);
        }
        machine.observe(10_100, 5, &[]);
        machine.answer(10_100, 5, &[]);
        machine.run(10_500, 16_500, 5, &[3, 4, 5]);
        assert_eq!(machine.downing.is_fenced(), troubled);
    }
}

#[test]
fn answers_of_a_while_ago_are_none_to_a_new_suspicion() {
    let mut machine = Machine::settled(Config::default(), 4);
    machine.observe(10_000, 4, &[(4, Standing::Suspect)]);
    machine.answer(10_001, 4, &[4]);
    machine.observe(11_001, 4, &[(3, Standing::Suspect), (4, Standing::Suspect)]);
    assert_eq!(machine.downing.unreachable, [id(3), id(4)].into());
}

fn released(machine: &mut Machine) -> Vec<MemberId> {
    let members = |effect| match effect {
        Effect::Release { members } => members,
        _ => vec![],
    };
    machine.effects().into_iter().flat_map(members).collect()
}

#[test]
fn those_who_are_found_unreachable_within_a_margin_are_released_together() {
    let mut machine = Machine::settled(Config::default(), 5);
    machine.observe(10_000, 5, &[(4, Standing::Suspect)]);
    machine.run(10_500, 12_000, 5, &[4, 5]);
    machine.observe(12_500, 5, &[(4, Standing::Suspect), (5, Standing::Suspect)]);
    machine.run(12_500, 20_500, 5, &[4, 5]);
    assert_eq!(machine.decisions(), []);
    machine.run(21_000, 21_000, 5, &[4, 5]);
    assert_eq!(machine.decisions().len(), 1);
    assert_eq!(released(&mut machine), [id(4), id(5)]);
}

#[test]
fn a_member_is_unreachable_for_a_whole_takeover_before_it_is_released() {
    let mut machine = Machine::settled(Config::default(), 5);
    machine.observe(10_000, 5, &[(4, Standing::Suspect)]);
    machine.run(10_500, 15_500, 5, &[4]);
    machine.run(16_000, 16_500, 5, &[4, 5]);
    machine.observe(17_000, 5, &[(4, Standing::Dead), (5, Standing::Suspect)]);
    machine.run(17_000, 18_000, 5, &[4, 5]);
    assert_eq!(released(&mut machine), []);
    machine.run(18_500, 25_000, 5, &[4, 5]);
    assert_eq!(released(&mut machine), [id(4)]);
    assert_eq!(machine.decisions()[0].unreachable, [id(4), id(5)]);
    machine.run(25_500, 25_500, 5, &[4, 5]);
    assert_eq!(released(&mut machine), [id(5)]);
    assert_eq!(machine.decisions()[0].unreachable, [id(5)]);
}

/// Node 1 of seven. 7 is dead from ten seconds on. Of the others one after the other is suspected, every three seconds,
/// and refutes; it is silent until then, or answers all the time. What was released when.
fn beside_suspects_that_refute(suspects: &[u128], silent: bool) -> Vec<(u64, MemberId)> {
    let mut machine = Machine::settled(Config::default(), 7);
    let mut done = vec![];
    for (slot, suspect) in (10_000..).step_by(3_000).zip(suspects) {
        for now in (slot..slot + 3_000).step_by(500) {
            let suspected = [(7, Standing::Dead), (*suspect, Standing::Suspect)];
            let refuted = now < slot + 1_500 || now >= slot + 2_500;
            machine.observe(now, 7, &suspected[..if refuted { 1 } else { 2 }]);
            machine.run(now, now, 7, &[7, if silent && now < slot + 2_500 { *suspect } else { 7 }]);
            done.extend(released(&mut machine).into_iter().map(|id| (now, id)));
        }
    }
    assert!(!machine.downing.is_fenced());
    done
}

#[test]
fn a_dead_member_is_released_in_time_though_others_are_suspected_and_refute() {
    for silent in [false, true] {
        assert_eq!(beside_suspects_that_refute(&[6; 10], silent), [(18_500, id(7))]);
        assert_eq!(beside_suspects_that_refute(&[5, 6, 5, 6, 5, 6, 5, 6], silent), [(18_500, id(7))]);
    }
}

#[test]
fn where_a_side_does_not_win_without_those_who_came_and_went_it_waits() {
    assert_eq!(beside_suspects_that_refute(&[4, 5, 6, 4, 5, 6, 4, 5, 6, 4, 5, 6], true), []);
    // 4 has refuted at 12.5 s.
    assert_eq!(beside_suspects_that_refute(&[4, 5, 6, 5, 6, 5, 6, 5, 6], true), [(21_000, id(7))]);
}

/// After the first cut 4 is with 5, after the second one 3 is: 5, which does not know yet that it has lost 4, sees
/// itself among three of five.
#[test]
fn who_came_back_from_the_others_counts_as_lost_until_these_must_have_noticed() {
    let mut machine = Machine::settled(Config::default(), 5);
    machine.observe(10_000, 5, &[(4, Standing::Suspect), (5, Standing::Suspect)]);
    machine.run(10_000, 13_000, 5, &[4, 5]);
    machine.run(13_500, 14_000, 5, &[3, 4, 5]);
    machine.observe(14_500, 5, &[(3, Standing::Suspect), (5, Standing::Suspect)]);
    machine.run(14_500, 22_500, 5, &[3, 5]);
    assert_eq!(machine.decisions(), []);
    machine.run(23_000, 23_000, 5, &[3, 5]);
    assert_eq!(released(&mut machine), [id(3), id(5)]);
}

#[test]
fn one_whose_verdict_was_withdrawn_is_released_again_only_after_another_takeover() {
    let mut machine = Machine::settled(Config::default(), 3);
    machine.observe(10_000, 3, &[(3, Standing::Dead)]);
    machine.run(10_000, 18_500, 3, &[3]);
    assert_eq!(released(&mut machine), [id(3)]);
    machine.observe(20_000, 3, &[]);
    machine.observe(30_000, 3, &[(3, Standing::Suspect)]);
    machine.run(30_000, 38_000, 3, &[3]);
    assert_eq!(released(&mut machine), []);
    machine.run(38_500, 38_500, 3, &[3]);
    assert_eq!(released(&mut machine), [id(3)]);
}

// A verdict that this node was told to give is a certain end, until it is withdrawn.
#[test]
fn one_whose_end_was_certain_and_is_withdrawn_counts_again() {
    let mut machine = Machine::settled(Config::default(), 3);
    machine.observe(10_000, 3, &[(3, Standing::Suspect)]);
    machine.run(10_000, 18_500, 3, &[3]);
    assert_eq!(released(&mut machine), [id(3)]);
    machine.observe(18_501, 3, &[(3, Standing::Gone)]);
    assert_eq!(machine.downing.settled(), 2);
    machine.observe(19_000, 3, &[]);
    machine.run(19_000, 30_000, 3, &[]);
    assert_eq!(machine.downing.settled(), 3);
    machine.observe(30_000, 3, &[(3, Standing::Dead)]);
    assert!(machine.downing.holds(id(3)));
}

// Else it would form a cluster by itself beside the newcomers, who count for each other.
#[test]
fn who_was_fenced_by_the_latest_view_returns_with_it() {
    let mut machine = Machine::settled(Config::default(), 1);
    machine.observe(20_000, 3, &[]);
    machine.run(20_000, 24_000, 3, &[]);
    machine.observe(24_500, 3, &[(2, Standing::Suspect), (3, Standing::Suspect)]);
    machine.fire(24_500);
    machine.fire(26_500);
    let decision = machine.decisions().remove(0);
    assert_eq!((&decision.baseline, &decision.latest), (&vec![id(1)], &vec![id(1), id(2), id(3)]));
    assert!(decision.fences(id(1)));
    assert_eq!(decision.counted(id(1)), [id(1), id(2), id(3)]);
    assert_eq!(decision.counted(id(2)), [id(1), id(3)], "who has not settled counts itself not");
}

// Ids begin with the time of their host. Else each side could have an oldest one of its own.
#[test]
fn who_runs_in_the_place_of_another_is_as_old_as_that_one() {
    let mut machine = Machine::settled(Config::keep_oldest(), 5);
    let observed = |id, standing| Observed { id, standing };
    let old = |standing| (1..=3).map(move |member| observed(id(member), standing));
    let newcomer = MemberId::new(0);
    let replaced = observed(id(5), Standing::Replaced { by: newcomer });
    let up =
        old(Standing::Up).skip(1).chain([observed(id(4), Standing::Up), observed(newcomer, Standing::Up), replaced]);
    machine.handle(10_000, Input::Observed(up.collect()));
    let seats = machine.downing.seats(&machine.downing.baseline);
    assert_eq!((seats.len(), seats.get(&newcomer)), (5, Some(&id(5))));
    assert_eq!(seats.into_values().min(), Some(id(1)), "the oldest");
}

#[test]
fn a_process_that_stood_still_takes_nothing_over_when_it_wakes() {
    let mut machine = Machine::settled(Config::default(), 3);
    machine.observe(10_000, 3, &[(3, Standing::Suspect)]);
    machine.fire(60_000);
    assert_eq!(machine.decisions(), []);
    assert!(!machine.downing.is_fenced());
}

#[test]
fn what_waited_while_a_process_stood_still_takes_nothing_over_either() {
    let mut machine = Machine::settled(Config::default(), 3);
    machine.observe(10_000, 3, &[(3, Standing::Suspect)]);
    machine.answer(60_000, 3, &[3]);
    machine.fire(60_000);
    assert_eq!(machine.decisions(), []);
    machine.run(60_500, 68_000, 3, &[3]);
    assert_eq!(machine.decisions(), []);
    machine.run(68_500, 68_500, 3, &[3]);
    assert_eq!(machine.decisions().len(), 1, "by time that it has lived through");
}

#[test]
fn a_member_that_joined_just_now_makes_no_majority() {
    // 1 and 5 are on this side, and 5 is so young that the others may not know of it.
    let mut machine = Machine::settled(Config::static_quorum(3), 4);
    machine.observe(10_000, 5, &[]);
    machine.observe(10_100, 5, &[(3, Standing::Suspect), (4, Standing::Suspect)]);
    assert!(machine.effects().contains(&Effect::Restrain(true)));
    let mut machine = Machine::settled(Config::static_quorum(3), 4);
    machine.observe(10_000, 5, &[]);
    machine.answer(15_000, 5, &[]);
    machine.observe(15_100, 5, &[(3, Standing::Suspect), (4, Standing::Suspect)]);
    assert!(!machine.effects().contains(&Effect::Restrain(true)), "it has settled");
}

/// A restarted seed has formed a cluster of its own, this node joined it, and the two were cut apart before the seed
/// knew that this node is up. The seed has lost nobody.
#[test]
fn a_newcomer_counts_neither_itself_nor_those_who_came_after_it() {
    let mut machine = Machine::new(Config::default());
    machine.observe(0, 2, &[]);
    machine.observe(50, 5, &[]);
    machine.observe(1_500, 5, &[(2, Standing::Suspect)]);
    assert!(machine.effects().contains(&Effect::Restrain(true)), "four of five, and all came after the fifth");
    machine.fire(3_500);
    assert_eq!(machine.effects().pop(), Some(Effect::Fence));
    assert_eq!(machine.decisions()[0].baseline, [id(2)]);
}

#[test]
fn a_newcomer_that_has_settled_counts_itself_though_others_still_come() {
    let mut machine = Machine::new(Config::default());
    for (now, count) in [(0, 2), (1_000, 3), (2_000, 4), (3_000, 5), (4_000, 6), (5_000, 7)] {
        machine.observe(now, count, &[]);
        machine.answer(now, count, &[]);
    }
    machine.observe(5_500, 7, &[(2, Standing::Suspect)]);
    assert!(!machine.effects().contains(&Effect::Restrain(true)), "it has been one of two for five seconds");
    machine.observe(5_600, 7, &[(2, Standing::Suspect), (3, Standing::Suspect)]);
    assert!(!machine.effects().contains(&Effect::Restrain(true)), "3 has not settled");
}

#[test]
fn who_has_formed_the_cluster_counts_itself_from_the_beginning() {
    let mut machine = Machine::new(Config::default());
    machine.observe(0, 1, &[]);
    machine.observe(100, 2, &[]);
    machine.observe(200, 2, &[(2, Standing::Suspect)]);
    assert!(!machine.effects().contains(&Effect::Restrain(true)));
}

#[test]
fn a_view_that_never_calms_down_brings_all_down_when_so_configured() {
    let config = Config::keep_majority().down_all_when_unstable(Duration::from_secs(15));
    let mut machine = Machine::settled(config, 5);
    for (now, member) in [(10_000, 3), (15_000, 4), (20_000, 3), (24_999, 4)] {
        machine.answer(now, 5, &[3, 4]);
        machine.observe(now, 5, &[(member, Standing::Suspect)]);
    }
    assert!(!machine.downing.is_fenced());
    machine.answer(25_000, 5, &[3, 4]);
    machine.observe(25_000, 5, &[(3, Standing::Suspect)]);
    assert_eq!(machine.decisions().pop().map(|it| (it.cause, it.chosen)), Some((Cause::Unstable, Side::Nobody)));
    assert!(machine.downing.is_fenced());
}

/// Who has fenced itself has ended, so that a quorum is no longer ambiguous; but others have not fenced yet.
#[test]
fn where_no_side_goes_on_nobody_stays_because_others_have_gone_down_already() {
    let mut machine = Machine::settled(Config::static_quorum(2), 4);
    machine.observe(10_000, 4, &[(4, Standing::Suspect)]);
    machine.run(10_500, 15_000, 4, &[4]);
    machine.observe(15_000, 4, &[(3, Standing::Gone), (4, Standing::Dead)]);
    machine.run(15_000, 18_500, 4, &[3, 4]);
    assert_eq!(machine.decisions().pop().map(|it| (it.cause, it.chosen)), Some((Cause::Stable, Side::Nobody)));
    assert!(machine.downing.is_fenced());

    let mut machine = Machine::settled(Config::static_quorum(2), 4);
    machine.observe(10_000, 4, &[(4, Standing::Suspect)]);
    machine.observe(11_000, 4, &[(3, Standing::Gone)]);
    machine.observe(12_000, 4, &[(3, Standing::Gone), (4, Standing::Suspect)]);
    machine.run(12_000, 20_500, 4, &[3, 4]);
    assert_eq!(machine.decisions().pop().map(|it| it.chosen), Some(Side::This), "4 was back in between");
}

#[test]
fn without_a_strategy_the_dead_are_released_at_once_and_nobody_is_asked() {
    let mut machine = Machine::settled(Config::off(), 5);
    machine.observe(10_000, 5, &[(2, Standing::Suspect), (3, Standing::Suspect), (4, Standing::Suspect)]);
    assert_eq!(machine.effects(), []);
    machine.observe(14_000, 5, &[(2, Standing::Dead), (3, Standing::Suspect), (4, Standing::Suspect)]);
    assert_eq!(machine.effects(), [Effect::Release { members: vec![id(2)] }]);
}

#[test]
fn more_members_than_the_limit_are_asked_in_turn() {
    let mut machine = Machine::settled(Config::default().poll_limit(2), 6);
    machine.observe(10_000, 6, &[(6, Standing::Suspect)]);
    for now in [10_500, 11_000, 11_500] {
        machine.fire(now);
    }
    let polls: Vec<_> = machine.effects().into_iter().filter(|effect| matches!(effect, Effect::Poll { .. })).collect();
    assert_eq!(polls, [poll([2, 3]), poll([4, 5]), poll([6, 2]), poll([3, 4])]);
}

#[test]
fn a_stale_timer_is_ignored() {
    let mut machine = Machine::settled(Config::default(), 3);
    machine.observe(10_000, 3, &[(2, Standing::Suspect), (3, Standing::Suspect)]);
    machine.effects();
    let stale = TimerEpoch::new(machine.timer.get() - 1);
    machine.handle(60_000, Input::Timer(stale));
    assert_eq!(machine.effects(), []);
}

#[test]
fn decisions_are_bounded() {
    let mut machine = Machine::settled(Config::default(), 20);
    for dead in 1..=17 {
        let now = u64::try_from(dead).unwrap() * 100_000;
        let standings: Vec<_> = (2..2 + dead).map(|member| (member, Standing::Dead)).collect();
        machine.answer(now, 20, &[]);
        machine.observe(now, 20, &standings);
        machine.run(now, now + 20_000, 20, &[]);
        assert_eq!(machine.decisions().len(), 1);
    }
    assert_eq!(machine.downing.decisions().count(), Downing::DECISIONS);
}

/// The clock of its host was set back in between.
#[test]
fn whom_a_process_with_a_lower_id_has_replaced_does_not_stand_in_for_it() {
    let at_host = |id, host: &str, stage| {
        Record::new(
            Member::new(MemberId::new(id), host, []),
            Incarnation::new(u64::from(stage > Stage::Joining)),
            stage,
        )
    };
    let mut node = Membership::new(LAN, Member::new(id(1), "host:1", []), 1);
    let heard = |node: &mut Membership, input| {
        let mut out = crate::Outbox::new();
        node.handle(at(0), input, &mut out);
    };
    let digest = node.digest();
    let gossip = |from: u128, records: Vec<Record>| {
        let updates = records.into_iter().map(alloc::sync::Arc::new).collect();
        Heard::Received { from: id(from), message: Message::Gossip { updates, digest } }
    };
    heard(&mut node, Heard::Start { seeds: vec![] });
    for (member, host) in [(2, "host:2"), (3, "host:3"), (30, "host:9"), (20, "host:9")] {
        let joiner = at_host(member, host, Stage::Joining);
        heard(&mut node, Heard::JoinRequested { request: RequestId::new(1), joiner });
        heard(&mut node, gossip(member, vec![at_host(member, host, Stage::Up)]));
    }
    let standing =
        |node: &Membership, member| observe(node).into_iter().find(|it| it.id == id(member)).map(|it| it.standing);
    let replaced = Some(Standing::Replaced { by: id(20) });
    assert_eq!((standing(&node, 30), standing(&node, 20)), (replaced, Some(Standing::Up)));
    for by in [2, 3] {
        heard(&mut node, gossip(by, vec![at_host(20, "host:9", Stage::Up).claimed(Verdict::Dead, id(by))]));
    }
    assert_eq!((standing(&node, 30), standing(&node, 20)), (replaced, Some(Standing::Dead)));
}
