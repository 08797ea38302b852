use super::*;
use alloc::vec;
use proptest::prelude::*;

fn member(id: u128) -> Subscriber {
    Subscriber::Member(MemberId::new(id))
}

fn grain() -> Subscriber {
    Subscriber::Grain(Arc::new(ClusterIdentity::new("archivist", "rust")))
}

fn id(id: u64) -> RequestId {
    RequestId::new(id)
}

fn deliver(publication: u64, subscriber: Subscriber) -> Effect {
    Effect::Deliver { publication: id(publication), subscriber }
}

fn published(request: u64, accepted: u32, delivered: u32, failed: Vec<(Subscriber, DeliveryStatus)>) -> Effect {
    Effect::Answer { request: id(request), answer: Answer::Published(PublishReceipt { accepted, delivered, failed }) }
}

struct Room {
    topic: Topic,
    now: Timestamp,
    events: Vec<Event>,
    timer: Option<SetTimer>,
}

impl Room {
    fn new() -> Self {
        Self { topic: Topic::new(Config::test()), now: Timestamp::ZERO, events: vec![], timer: None }
    }

    fn with(subscribers: impl IntoIterator<Item = Subscriber>) -> Self {
        let mut room = Self::new();
        for subscriber in subscribers {
            room.subscribe(subscriber);
        }
        room.events.clear();
        room
    }

    fn does(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Outbox::new();
        self.topic.handle(self.now, input, &mut out);
        self.events.extend(out.drain_events());
        let mut effects: Vec<_> = out.drain_effects().collect();
        effects.retain(|effect| match effect {
            Effect::SetTimer(timer) => {
                self.timer = Some(*timer);
                false
            }
            _ => true,
        });
        effects
    }

    fn subscribe(&mut self, subscriber: Subscriber) -> Vec<Effect> {
        self.does(Input::Subscribe { request: id(1_000), subscriber })
    }

    fn publish(&mut self, publication: u64) -> Vec<Effect> {
        self.does(Input::Publish { publication: id(publication) })
    }

    fn report(&mut self, publication: u64, subscriber: Subscriber, status: DeliveryStatus) -> Vec<Effect> {
        self.does(Input::Delivered { publication: id(publication), subscriber, status })
    }

    /// Lets time pass and the timers fire that fall into it.
    fn later(&mut self, milliseconds: u64) -> Vec<Effect> {
        let until = self.now + Duration::from_millis(milliseconds);
        let mut effects = vec![];
        let mut set_at = self.now;
        while let Some(timer) = self.timer.filter(|timer| set_at + timer.after <= until) {
            self.now = set_at + timer.after;
            set_at = self.now;
            self.timer = None;
            effects.extend(self.does(Input::TimerFired(timer.epoch)));
        }
        if let Some(timer) = &mut self.timer {
            timer.after = timer.after.saturating_sub(until.since(set_at));
        }
        self.now = until;
        effects
    }
}

// proves PS-1, CX-4.2
#[test]
fn a_publication_reaches_all_subscribers_and_its_receipt_says_so() {
    let mut room = Room::with([member(1), grain(), member(2)]);
    assert_eq!(room.publish(1), [deliver(1, member(1)), deliver(1, member(2)), deliver(1, grain())]);
    assert_eq!(room.report(1, member(2), DeliveryStatus::Delivered), []);
    assert_eq!(room.report(1, grain(), DeliveryStatus::Delivered), []);
    assert_eq!(room.report(1, member(1), DeliveryStatus::Delivered), [published(1, 3, 3, vec![])]);
}

// proves PS-1
#[test]
fn no_subscriber_is_a_result_at_once() {
    assert_eq!(Room::new().publish(1), [published(1, 0, 0, vec![])]);
}

#[test]
fn subscribing_twice_is_a_renewal_and_unsubscribing_twice_is_an_answer() {
    let mut room = Room::new();
    let subscribed =
        || Effect::Answer { request: id(1_000), answer: Answer::Subscribed { lease: Duration::from_secs(1) } };
    assert_eq!(room.subscribe(member(1)), [subscribed()]);
    assert_eq!(room.subscribe(member(1)), [subscribed()]);
    let unsubscribe = || Input::Unsubscribe { request: id(1), subscriber: member(1) };
    let unsubscribed = || Effect::Answer { request: id(1), answer: Answer::Unsubscribed };
    assert_eq!(room.does(unsubscribe()), [unsubscribed()]);
    assert_eq!(room.does(unsubscribe()), [unsubscribed()]);
    let reason = UnsubscribeReason::Asked;
    assert_eq!(room.events, [Event::Subscribed(member(1)), Event::Unsubscribed(member(1), reason)]);
    assert_eq!(room.publish(1), [published(1, 0, 0, vec![])]);
    assert!(room.topic.is_idle());
}

// proves PS-3
#[test]
fn a_slow_subscriber_delays_no_other_and_is_reported_after_the_timeout() {
    let mut room = Room::with([member(1), member(2)]);
    room.publish(1);
    assert_eq!(room.publish(2), [deliver(2, member(1)), deliver(2, member(2))], "does not wait for the first");
    room.report(1, member(1), DeliveryStatus::Delivered);
    room.report(2, member(1), DeliveryStatus::Delivered);
    assert_eq!(room.later(199), []);
    let slow = || vec![(member(2), DeliveryStatus::Timeout)];
    assert_eq!(room.later(1), [published(1, 2, 1, slow()), published(2, 2, 1, slow())]);
    assert_eq!(room.report(1, member(2), DeliveryStatus::NoLongerReachable), [], "too late");
    assert_eq!(room.topic.subscribers().count(), 2);
}

#[test]
fn a_slow_subscriber_holds_no_more_than_its_window() {
    let mut room = Room::with([member(1), member(2)]);
    for publication in 0..8 {
        room.publish(publication);
        assert_eq!(room.report(publication, member(1), DeliveryStatus::Delivered), []);
    }
    assert_eq!(room.publish(8), [deliver(8, member(1))]);
    let overloaded = vec![(member(2), DeliveryStatus::Overloaded)];
    assert_eq!(room.report(8, member(1), DeliveryStatus::Delivered), [published(8, 1, 1, overloaded)]);
    room.report(0, member(2), DeliveryStatus::Delivered);
    assert_eq!(room.publish(9), [deliver(9, member(1)), deliver(9, member(2))]);
}

// proves PS-3
#[test]
fn a_dead_local_subscriber_is_removed_and_a_grain_stays() {
    let mut room = Room::with([member(1), grain()]);
    room.publish(1);
    room.report(1, member(1), DeliveryStatus::NoLongerReachable);
    let failed = [member(1), grain()].map(|subscriber| (subscriber, DeliveryStatus::NoLongerReachable));
    let effects = room.report(1, grain(), DeliveryStatus::NoLongerReachable);
    assert_eq!(effects, [published(1, 2, 0, failed.into())]);
    assert_eq!(room.topic.subscribers().collect::<Vec<_>>(), [&grain()]);
    assert_eq!(room.events, [Event::Unsubscribed(member(1), UnsubscribeReason::NoLongerReachable)]);
}

#[test]
fn who_subscribed_again_after_the_publication_is_not_removed_by_its_report() {
    let mut room = Room::with([member(1)]);
    room.publish(1);
    room.now = Timestamp::from_millis(1);
    room.subscribe(member(1));
    room.report(1, member(1), DeliveryStatus::NoLongerReachable);
    assert_eq!(room.topic.subscribers().count(), 1);
}

// proves PS-6
#[test]
fn a_member_that_goes_takes_its_subscription_and_its_deliveries_with_it() {
    let mut room = Room::with([member(1), member(2)]);
    room.publish(1);
    room.report(1, member(2), DeliveryStatus::Delivered);
    let failed = vec![(member(1), DeliveryStatus::NoLongerReachable)];
    assert_eq!(room.does(Input::MemberGone(MemberId::new(1))), [published(1, 2, 1, failed)]);
    assert_eq!(room.topic.subscribers().collect::<Vec<_>>(), [&member(2)]);
    assert_eq!(room.does(Input::MemberGone(MemberId::new(9))), []);
}

#[test]
fn a_lease_that_is_not_renewed_runs_out_and_a_grain_has_none() {
    let mut room = Room::with([member(1), member(2), grain()]);
    room.later(600);
    room.subscribe(member(1));
    room.later(400);
    assert_eq!(room.topic.subscribers().collect::<Vec<_>>(), [&member(1), &grain()]);
    room.later(599);
    assert_eq!(room.topic.subscribers().count(), 2);
    room.later(1);
    assert_eq!(room.topic.subscribers().collect::<Vec<_>>(), [&grain()]);
    room.later(10_000);
    let reason = UnsubscribeReason::LeaseExpired;
    assert_eq!(room.events, [Event::Unsubscribed(member(2), reason), Event::Unsubscribed(member(1), reason)]);
}

#[test]
fn a_stale_timer_is_ignored() {
    let mut room = Room::with([member(1)]);
    let lease = room.timer.unwrap();
    room.publish(1);
    let delivery = room.timer.unwrap();
    assert_ne!(lease.epoch, delivery.epoch);
    room.now = Timestamp::from_millis(5_000);
    assert_eq!(room.does(Input::TimerFired(lease.epoch)), []);
    assert_eq!(room.topic.subscribers().count(), 1);
    let failed = vec![(member(1), DeliveryStatus::Timeout)];
    assert_eq!(room.does(Input::TimerFired(delivery.epoch)), [published(1, 1, 0, failed)]);
}

#[test]
fn subscribers_and_publications_are_bounded() {
    let mut room = Room::with((0..100).map(member));
    let overloaded = |request| Effect::Answer { request: id(request), answer: Answer::Overloaded };
    assert_eq!(room.subscribe(member(100)), [overloaded(1_000)]);
    assert_ne!(room.subscribe(member(99)), [overloaded(1_000)], "a renewal is no new subscriber");

    let config = Config { max_publications: 2, window: 1, ..Config::test() };
    let mut room = Room { topic: Topic::new(config), ..Room::new() };
    for (publication, subscriber) in [(1, member(1)), (2, member(2))] {
        room.subscribe(subscriber);
        room.publish(publication);
    }
    assert_eq!(room.publish(3), [overloaded(3)]);
}

#[test]
fn a_report_that_nobody_waits_for_changes_nothing() {
    let mut room = Room::with([member(1)]);
    room.publish(1);
    assert_eq!(room.report(7, member(1), DeliveryStatus::Delivered), []);
    assert_eq!(room.report(1, member(7), DeliveryStatus::Delivered), []);
    assert_eq!(room.report(1, member(1), DeliveryStatus::Delivered), [published(1, 1, 1, vec![])]);
    assert_eq!(room.report(1, member(1), DeliveryStatus::NoLongerReachable), [], "reported already");
    assert_eq!(room.topic.subscribers().count(), 1);
}

#[test]
fn a_publication_under_way_is_not_published_again_under_its_id() {
    let mut room = Room::with([member(1)]);
    room.publish(1);
    assert_eq!(room.publish(1), []);
    assert_eq!(room.report(1, member(1), DeliveryStatus::Delivered), [published(1, 1, 1, vec![])]);
}

#[test]
fn a_configuration_in_which_one_slow_subscriber_stops_the_topic_is_none() {
    assert_eq!(Config::lan().validate(), Ok(()));
    assert_eq!(Config::test().validate(), Ok(()));
    let invalid = Config { window: 32, ..Config::test() };
    assert_eq!(invalid.validate(), Err(InvalidConfig::Window { window: 32, max_publications: 32 }));
    let invalid = Config { lease: Duration::ZERO, ..Config::test() };
    assert_eq!(invalid.validate(), Err(InvalidConfig::Zero { field: "lease" }));
}

#[derive(Debug, Clone)]
enum Step {
    Subscribe(u8),
    Unsubscribe(u8),
    Publish,
    Report(u8, u8),
    Gone(u8),
    Later(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_u8..5).prop_map(Step::Subscribe),
        1 => (0_u8..5).prop_map(Step::Unsubscribe),
        4 => Just(Step::Publish),
        6 => (any::<u8>(), 0_u8..4).prop_map(|(choice, status)| Step::Report(choice, status)),
        1 => (0_u8..5).prop_map(Step::Gone),
        1 => (0_u16..500).prop_map(Step::Later),
    ]
}

proptest! {
    #[test]
    fn each_publication_is_answered_once_and_its_receipt_adds_up(steps in proptest::collection::vec(step(), 1..150)) {
        use DeliveryStatus::{Delivered, Failed, NoLongerReachable, Overloaded, Timeout};
        let config = Config { window: 3, max_publications: 5, ..Config::test() };
        let mut room = Room { topic: Topic::new(config), ..Room::new() };
        let subscriber = |number: u8| if number == 0 { grain() } else { member(number.into()) };
        let (mut drawn, mut open, mut deliveries) = (0, BTreeMap::new(), vec![]);
        for step in steps.into_iter().chain([Step::Later(200)]) {
            let effects = match step {
                Step::Subscribe(number) => room.subscribe(subscriber(number)),
                Step::Unsubscribe(number) => {
                    room.does(Input::Unsubscribe { request: id(1_000), subscriber: subscriber(number) })
                }
                Step::Publish => {
                    drawn += 1;
                    open.insert(id(drawn), 0);
                    room.publish(drawn)
                }
                Step::Report(choice, status) => {
                    let Some(at) = usize::from(choice).checked_rem(deliveries.len()) else { continue };
                    let (publication, subscriber) = deliveries.swap_remove(at);
                    let status = [Delivered, NoLongerReachable, Timeout, Failed][usize::from(status)];
                    room.does(Input::Delivered { publication, subscriber, status })
                }
                Step::Gone(number) => room.does(Input::MemberGone(MemberId::new(number.into()))),
                Step::Later(milliseconds) => room.later(milliseconds.into()),
            };
            for effect in effects {
                match effect {
                    Effect::Deliver { publication, subscriber } => {
                        *open.get_mut(&publication).unwrap() += 1;
                        deliveries.push((publication, subscriber));
                    }
                    Effect::Answer { request, answer: Answer::Published(receipt) } => {
                        prop_assert_eq!(open.remove(&request), Some(receipt.accepted), "answered once");
                        let sent = receipt.failed.iter().filter(|(_, status)| *status != Overloaded).count();
                        prop_assert_eq!(receipt.accepted as usize, receipt.delivered as usize + sent);
                    }
                    Effect::Answer { request, answer: Answer::Overloaded } => {
                        prop_assert_eq!(open.remove(&request), Some(0));
                    }
                    Effect::Answer { .. } | Effect::SetTimer(_) => {}
                }
            }
        }
        prop_assert!(open.is_empty(), "after the timeout nobody waits: {:?}", open);
    }
}
