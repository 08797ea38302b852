//! How long a message is on the wire, without writing it.
//!
//! The simulator sends millions of messages; each would have to be copied into its wire type to be measured. The
//! lengths follow from the fields, and a test compares them with what the real encoder writes.

use gristmill_core::membership::{Message, Record};

use super::node::said;

/// The length of the encoded payload: without the envelope of the remoting, without TCP and IP.
pub(super) fn encoded_len(message: &Message) -> usize {
    let records: usize = said(message).iter().map(|record| record_len(record)).sum();
    let fixed = match message {
        Message::Ping { sequence, digest, .. } | Message::PingAck { sequence, digest, .. } => {
            number(sequence.get()) + fixed64(digest.get())
        }
        Message::PingRequest { sequence, refused, digest, .. } => {
            number(sequence.get()) + text(16) + 2 * usize::from(*refused) + fixed64(digest.get())
        }
        Message::PingReport { sequence, digest, .. } => number(sequence.get()) + text(16) + 2 + fixed64(digest.get()),
        Message::Gossip { digest, .. } => fixed64(digest.get()),
        Message::Compare { buckets, .. } => text(8 * buckets.len()),
        Message::Sync { complete, .. } => {
            let packed = complete.numbers().iter().map(|number| varint(*number as u64)).sum();
            number(complete.count() as u64) + if packed == 0 { 0 } else { text(packed) }
        }
    };
    records + fixed
}

/// The record as a repeated field: what the member wrote, and what is claimed of it.
fn record_len(record: &Record) -> usize {
    let member = record.member();
    let id = text(16);
    let kinds: usize = member.kinds.iter().map(|kind| text(kind.as_str().len())).sum();
    let incarnation = number(record.incarnation().get());
    // No stage and no verdict is written as zero, and all are written in one byte.
    let own =
        id + text(member.address.as_str().len()) + kinds + number(u64::from(member.weight.get())) + incarnation + 2;
    let claim = if record.claim().is_some() { 2 + text(authors_len(record)) } else { 0 };
    text(own + claim)
}

fn authors_len(record: &Record) -> usize {
    16 * record.authors().len()
}

/// A field of a number; what is zero is not written.
fn number(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint(value) }
}

/// A field of so many bytes.
fn text(length: usize) -> usize {
    1 + varint(length as u64) + length
}

const fn fixed64(value: u64) -> usize {
    if value == 0 { 0 } else { 9 }
}

fn varint(value: u64) -> usize {
    (70 - value.max(1).leading_zeros() as usize) / 7
}

#[cfg(test)]
mod tests {
    use super::*;
    use gristmill_core::Member;
    use gristmill_core::membership::{Buckets, PingOutcome, ProbeSequence, Stage, TableDigest, Verdict, WireMessage};
    use gristmill_messages::{Incarnation, MemberId};
    use prost::Message as _;

    fn written(message: &Message) -> usize {
        match WireMessage::from(message) {
            WireMessage::Ping(message) => message.encoded_len(),
            WireMessage::PingAck(message) => message.encoded_len(),
            WireMessage::PingRequest(message) => message.encoded_len(),
            WireMessage::PingReport(message) => message.encoded_len(),
            WireMessage::Gossip(message) => message.encoded_len(),
            WireMessage::Compare(message) => message.encoded_len(),
            WireMessage::Sync(message) => message.encoded_len(),
        }
    }

    #[test]
    fn the_length_is_the_one_that_the_encoder_writes() {
        let record = |incarnation: u64, stage| {
            let member = Member::new(MemberId::new(u128::MAX / 3), "host:1234", ["cart".into(), "user".into()]);
            Record::new(member, Incarnation::new(incarnation), stage)
        };
        let accuser = MemberId::new(u128::MAX / 7);
        let target = MemberId::new(77);
        let mut updates = Vec::new();
        for incarnation in [0, 1, 127, 128, 70_000, u64::MAX] {
            for stage in [Stage::Joining, Stage::Up, Stage::Leaving, Stage::Removed] {
                let own = record(incarnation, stage);
                updates.push(own.clone().into());
                for verdict in [Verdict::Suspect, Verdict::Dead, Verdict::Removed] {
                    let claimed = own.claimed(verdict, accuser);
                    updates.push(claimed.clone().into());
                    updates.push(claimed.claimed(verdict, target).into());
                }
            }
        }
        let digest = TableDigest::new(9);
        for sequence in [0, 1, 127, 128, 1 << 40].map(ProbeSequence::new) {
            let ping = Message::Ping { sequence, updates: updates.clone(), digest };
            assert_eq!(encoded_len(&ping), written(&ping));
            let ack = Message::PingAck { sequence, updates: Vec::new(), digest: TableDigest::default() };
            assert_eq!(encoded_len(&ack), written(&ack));
            for refused in [true, false] {
                let request = Message::PingRequest { sequence, target, refused, updates: updates.clone(), digest };
                assert_eq!(encoded_len(&request), written(&request));
            }
            for outcome in [PingOutcome::Reached, PingOutcome::Silent, PingOutcome::Refused] {
                let report = Message::PingReport { sequence, target, outcome, updates: updates.clone(), digest };
                assert_eq!(encoded_len(&report), written(&report));
            }
        }
        let gossip = Message::Gossip { updates: updates.clone(), digest };
        assert_eq!(encoded_len(&gossip), written(&gossip));
        for count in [1, 2, 16, 128, 256] {
            let compare = Message::Compare { updates: updates.clone(), buckets: vec![digest; count] };
            assert_eq!(encoded_len(&compare), written(&compare));
            let complete = Buckets::new(count, (0..count).step_by(3).collect()).unwrap_or_default();
            let sync = Message::Sync { records: updates.clone(), complete };
            assert_eq!(encoded_len(&sync), written(&sync));
        }
        let sync = Message::Sync { records: updates.clone(), complete: Buckets::default() };
        assert_eq!(encoded_len(&sync), written(&sync));
    }
}
