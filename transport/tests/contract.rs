//! What every network has to carry: one suite, run for TCP and for memory.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)] // helpers of tests say what they expect, too

#[path = "contract/harness.rs"]
mod harness;

#[path = "contract/calls.rs"]
mod calls;
#[path = "contract/handshakes.rs"]
mod handshakes;
#[path = "contract/limits.rs"]
mod limits;

use gristmill_transport::MemoryNetwork;
use harness::Net;

macro_rules! contract {
    ($($module:ident: $($name:ident),+ $(,)?;)+) => {
        mod tcp {
            $(mod $module {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::super::$module::$name(super::super::Net::Tcp).await;
                })+
            })+
        }

        mod memory {
            $(mod $module {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::super::$module::$name(super::super::Net::Memory(super::super::MemoryNetwork::new())).await;
                })+
            })+
        }
    };
}

contract! {
    calls:
        both_sides_call_over_one_connection,
        what_one_task_sends_arrives_in_order,
        many_concurrent_calls_each_get_their_own_answer,
        a_request_carries_target_trace_and_deadline,
        every_outcome_reaches_the_caller,
        a_dropped_call_leaves_nothing_and_the_peer_learns_of_it,
        a_call_that_expires_leaves_nothing_and_says_that_it_was_sent,
        calls_that_nobody_waits_for_leave_room_for_others_whatever_becomes_of_them,
        a_deadline_that_has_passed_sends_nothing,
        an_answer_that_comes_late_ends_no_other_call,
        a_dropped_responder_answers_for_itself,
        closing_ends_open_calls_and_both_handlers_hear_of_it_once,
        what_was_queued_before_closing_arrives,
        what_was_queued_arrives_at_a_peer_that_goes_on_sending,
        a_call_over_a_closed_connection_was_not_sent,
        a_peer_that_hangs_up_ends_the_connection,
        a_handler_that_panics_costs_its_connection_only,
        a_node_calls_back_while_the_window_of_its_caller_is_full;
    handshakes:
        both_sides_know_each_other,
        another_cluster_or_secret_is_refused_for_good,
        no_version_in_common_is_refused,
        another_member_than_the_expected_is_refused,
        who_is_not_admitted_is_told_why,
        connections_over_the_limit_are_refused_as_overloaded,
        nobody_listening_is_unreachable,
        junk_instead_of_a_handshake_is_refused_and_harms_nobody,
        a_handshake_that_never_ends_is_ended,
        a_silent_acceptor_is_given_up,
        unfinished_handshakes_are_bounded_and_yield_their_places,
        shutdown_frees_the_address_and_ends_all_connections,
        an_address_in_use_is_refused,
        accepting_survives_failures_of_the_listener;
    limits:
        a_request_over_the_frame_limit_fails_at_its_sender,
        an_answer_over_the_frame_limit_becomes_an_unknown_outcome,
        a_rejection_too_large_to_send_becomes_an_unknown_outcome,
        frames_up_to_the_limit_pass,
        a_length_of_two_gibibytes_ends_the_connection_with_a_reason,
        junk_after_the_handshake_ends_the_connection_with_a_reason,
        a_handshake_frame_after_the_handshake_ends_the_connection,
        a_frame_of_nothing_known_is_ignored_and_counted,
        a_request_to_nobody_is_answered,
        a_request_id_in_use_is_answered,
        a_cancelled_request_is_answered_at_once_and_only_once,
        a_peer_that_stops_reading_loses_its_connection_and_harms_nobody,
        calls_beyond_the_window_wait_for_an_answer,
        a_peer_that_ignores_the_window_is_refused_not_served,
        a_peer_that_takes_no_refusals_is_read_no_further,
        answers_nobody_asked_for_open_no_window,
        one_way_requests_wait_for_room;
}
