"""The cases. A case is a function that gets a world; it fails by raising."""

from . import handshakes, messages, pickmeup, retained, sessions, wills

#: In the order in which they run.
ALL = [
    messages.everyone_reaches_everyone_at_every_qos,
    messages.a_thousand_messages_arrive_in_order,
    messages.five_megabytes_arrive_whole,
    messages.sys_topics_are_there,
    retained.a_retained_message_greets_late_subscribers_until_it_is_cleared,
    wills.a_will_is_published_for_a_client_that_vanishes_and_not_for_one_that_leaves,
    sessions.a_session_keeps_what_its_client_missed,
    sessions.a_session_is_resumed_by_another_kind_of_client,
    sessions.a_newer_connection_takes_the_session_over,
    handshakes.qos_1_arrives_at_least_once_wherever_the_connection_breaks,
    handshakes.qos_2_arrives_exactly_once_wherever_the_connection_breaks,
    pickmeup.connection,
    pickmeup.pairing,
    pickmeup.approaching,
    pickmeup.driving,
    pickmeup.payment,
    pickmeup.payment_over_a_restart,
]
