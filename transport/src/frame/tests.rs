use std::collections::BTreeMap;

use gristmill_messages::cluster::{GrainErrorResponse, GrainResponse};
use gristmill_messages::remote::{CancelRequest, Request, Response, response::Outcome};
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1024 * 1024;

fn cancel(request_id: u64) -> MessageType {
    MessageType::CancelRequest(CancelRequest { request_id })
}

fn bytes_of(messages: impl IntoIterator<Item = MessageType>) -> BytesMut {
    let mut bytes = BytesMut::new();
    for message in messages {
        encode(message, LIMIT, &mut bytes).unwrap();
    }
    bytes
}

fn decoder(bytes: &[u8]) -> Decoder {
    let mut decoder = Decoder::new(LIMIT);
    decoder.buffer().extend_from_slice(bytes);
    decoder
}

#[test]
fn a_length_of_two_gibibytes_is_refused_before_anything_is_reserved() {
    let mut decoder = decoder(&0x8000_0000_u32.to_be_bytes());
    let capacity = decoder.buffer().capacity();
    assert_eq!(decoder.next_frame(), Err(FrameError::TooLarge { claimed: 0x8000_0000, limit: LIMIT }));
    assert_eq!(decoder.buffer().capacity(), capacity);
}

#[test]
fn a_claimed_length_within_the_limit_reserves_nothing_until_its_bytes_come() {
    let mut decoder = decoder(&(LIMIT as u32).to_be_bytes());
    assert_eq!(decoder.next_frame(), Ok(None));
    assert!(decoder.buffer().capacity() < 1024);
}

#[test]
fn the_limit_is_exact_at_both_ends() {
    let message = cancel(1);
    let length = bytes_of([message.clone()]).len() - PREFIX;
    let mut out = BytesMut::from("before");
    let error = FrameError::TooLarge { claimed: length, limit: length - 1 };
    assert_eq!(encode(message.clone(), length - 1, &mut out), Err(error.clone()));
    assert_eq!(out, "before");
    assert_eq!(encode(message.clone(), length, &mut out), Ok(PREFIX + length));

    let mut decoder = decoder(&out["before".len()..]);
    decoder.set_limit(length - 1);
    assert_eq!(decoder.next_frame(), Err(error));
    decoder.set_limit(length);
    assert_eq!(decoder.next_frame().unwrap().unwrap().message_type, Some(message));
}

#[test]
fn what_this_version_does_not_know_is_a_frame_without_a_message() {
    // Nothing at all, and field 15,000 of the frame.
    for frame in [&[0, 0, 0, 0][..], &[0, 0, 0, 5, 0xc2, 0xa9, 0x07, 1, 0]] {
        assert_eq!(decoder(frame).next_frame(), Ok(Some(remote::Frame { message_type: None })));
    }
}

#[test]
fn bytes_that_are_no_message_are_malformed() {
    for frame in [&[0, 0, 0, 1, 0xff][..], &[0, 0, 0, 3, 0xb2, 0x06, 9], b"\0\0\0\x04GET "] {
        assert!(matches!(decoder(frame).next_frame(), Err(FrameError::Malformed { .. })), "{frame:?}");
    }
}

#[test]
fn a_large_payload_shares_the_read_buffer_and_a_small_one_does_not() {
    let request = |size: usize| {
        let message_data = Bytes::from(vec![7; size]);
        MessageType::Request(Request { request_id: 1, message_data, ..Request::default() })
    };
    for (size, shares) in [(64, false), (100_000, true)] {
        let mut decoder = decoder(&bytes_of([request(size)]));
        let range = decoder.buffer().as_ptr_range();
        let Some(MessageType::Request(request)) = decoder.next_frame().unwrap().unwrap().message_type else { panic!() };
        assert_eq!(request.message_data.len(), size);
        assert_eq!(range.contains(&request.message_data.as_ptr()), shares);
    }
}

fn rejection(details: usize) -> MessageType {
    let metadata: BTreeMap<_, _> = (0..details).map(|n| (n.to_string(), String::new())).collect();
    let rejected = GrainErrorResponse { metadata, ..GrainErrorResponse::default() };
    MessageType::Response(Response { request_id: 1, outcome: Some(Outcome::Rejected(rejected)) })
}

#[test]
fn a_rejection_whose_details_would_fill_the_memory_is_refused() {
    assert!(decoder(&bytes_of([rejection(1000)])).next_frame().is_ok());
    let error = decoder(&bytes_of([rejection(10_000)])).next_frame().unwrap_err();
    assert!(matches!(error, FrameError::RejectionTooLarge(bytes) if bytes > MAX_REJECTION), "{error:?}");
}

#[test]
fn a_rejection_in_many_small_parts_is_refused_as_the_whole_that_it_becomes() {
    let part = remote::Frame { message_type: Some(rejection(1000)) }.encode_to_vec();
    assert!(part.len() < MAX_REJECTION);
    let body = part.repeat(10);
    let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(body);
    assert!(matches!(decoder(&frame).next_frame(), Err(FrameError::RejectionTooLarge(_))));
}

#[test]
fn a_large_answer_is_no_rejection() {
    let message_data = Bytes::from(vec![0x1a; 2 * MAX_REJECTION]);
    let answer = GrainResponse { message_data, message_type_name: String::new() };
    let response = MessageType::Response(Response { request_id: 1, outcome: Some(Outcome::Response(answer)) });
    assert_eq!(decoder(&bytes_of([response.clone()])).next_frame().unwrap().unwrap().message_type, Some(response));
}

fn any_message() -> impl Strategy<Value = MessageType> {
    let data =
        prop_oneof![proptest::collection::vec(any::<u8>(), 0..64), proptest::collection::vec(any::<u8>(), 4000..9000)];
    prop_oneof![
        any::<u64>().prop_map(cancel),
        (any::<u64>(), any::<u64>(), data, any::<u32>()).prop_map(
            |(request_id, activation_id, data, timeout_milliseconds)| {
                MessageType::Request(Request {
                    request_id,
                    activation_id,
                    message_data: data.into(),
                    timeout_milliseconds,
                    ..Request::default()
                })
            }
        ),
        (0..50_usize).prop_map(rejection),
    ]
}

proptest! {
    #[test]
    fn frames_survive_being_cut_anywhere(
        messages in proptest::collection::vec(any_message(), 0..6),
        cuts in proptest::collection::vec(1..5000_usize, 1..40),
    ) {
        let bytes = bytes_of(messages.clone());
        let mut decoder = Decoder::new(LIMIT);
        let mut rest = &bytes[..];
        let mut decoded = Vec::new();
        for cut in cuts.into_iter().cycle() {
            let (piece, tail) = rest.split_at(cut.min(rest.len()));
            decoder.buffer().extend_from_slice(piece);
            while let Some(frame) = decoder.next_frame().unwrap() {
                decoded.push(frame.message_type.unwrap());
            }
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(decoded, messages);
    }

    #[test]
    fn junk_neither_panics_nor_hangs(junk in proptest::collection::vec(any::<u8>(), 0..300), limit in 0..200_usize) {
        let mut decoder = Decoder::new(limit);
        decoder.buffer().extend_from_slice(&junk);
        for _ in 0..junk.len() + 1 {
            match decoder.next_frame() {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Ok(()),
            }
        }
        prop_assert!(false, "more frames than bytes");
    }

    #[test]
    fn bytes_that_were_changed_neither_panic_nor_decode_to_more_than_they_are(
        message in any_message(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = bytes_of([message]);
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        let mut decoder = decoder(&bytes);
        while let Ok(Some(frame)) = decoder.next_frame() {
            prop_assert!(frame.encoded_len() <= bytes.len() + 16);
        }
    }
}
