//! What is not sent, because it is known.

use super::*;

const D: MemberId = MemberId::new(4);
const E: MemberId = MemberId::new(5);
const OF_ANOTHER: TableDigest = TableDigest::new(7);

fn up(id: MemberId) -> Record {
    record(id, 1, Stage::Up)
}

fn among(others: &[MemberId]) -> Node {
    Node::knowing(&others.iter().map(|id| up(*id)).collect::<Vec<_>>())
}

impl Node {
    /// Says nothing but which table `from` holds.
    fn shown(&mut self, milliseconds: u64, from: MemberId, digest: TableDigest) {
        let sequence = ProbeSequence::new(77);
        self.receive(milliseconds, from, Message::PingAck { sequence, updates: vec![], digest });
    }

    /// To whom something is said of this member in the next round of gossip.
    fn told_of(&mut self, member: MemberId) -> Vec<MemberId> {
        let mut out = Outbox::new();
        self.membership.gossip(&mut out);
        self.effects = out.drain_effects().collect();
        let says = |message: &Message| message.contents().0.iter().any(|record| record.id() == member);
        let mut told: Vec<_> = self.sent().iter().filter(|(_, message)| says(message)).map(|(to, _)| *to).collect();
        told.sort_unstable();
        told
    }
}

#[test]
fn who_has_shown_the_same_table_is_told_no_news() {
    let mut node = among(&[B, C, D]);
    node.receive(1000, E, Message::Gossip { updates: shared([up(E)]), digest: OF_ANOTHER });
    let digest = node.membership.digest();
    node.shown(1001, B, digest);
    node.shown(1001, C, digest);
    assert_eq!(node.told_of(E), [D, E]);
    node.shown(1201, D, digest);
    node.shown(1201, C, OF_ANOTHER);
    assert_eq!(node.told_of(E), [C, E], "whose table is another one since may not know it");
}

#[test]
fn news_that_all_have_shown_to_know_are_news_no_longer() {
    let mut node = among(&[B, C]);
    node.receive(1000, D, Message::Gossip { updates: shared([up(D)]), digest: OF_ANOTHER });
    let digest = node.membership.digest();
    for other in [B, C, D] {
        node.shown(1001, other, digest);
    }
    assert_eq!(node.told_of(D), []);
    assert!(node.membership.news.is_empty());
}

#[test]
fn who_accuses_is_told_to_all_because_no_table_digest_shows_it() {
    let mut node = among(&[B, C, D]);
    node.gossip(1000, B, vec![up(D).claimed(Verdict::Suspect, B)]);
    let digest = node.membership.digest();
    node.shown(1001, B, digest);
    node.shown(1001, C, digest);
    assert_eq!(node.told_of(D), [B, C, D]);
}

#[test]
fn the_accused_is_told_by_one_of_its_accusers() {
    let mut node = among(&[B, C, D]);
    node.gossip(1000, B, vec![up(D).claimed(Verdict::Suspect, B).claimed(Verdict::Suspect, C)]);
    let updates = node.membership.updates_for(D, false);
    assert_eq!(updates, shared([up(D).claimed(Verdict::Suspect, B)]));
}
