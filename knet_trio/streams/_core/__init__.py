"""The protocol of streams without I/O.

Nothing here knows of Trio, channels, clocks or randomness. Callers pass ``now`` (seconds on any
steady clock) and the packets that arrived, and get the packets to send, the streams with news and
the time of the next call. ``docs/streams-protocol.md`` describes the protocol. From the bottom up::

    limits            the constants of the protocol
    faults            the reasons to refuse a packet
    quick_enum        enums with a fast hash
    range_set         sets of integers, as ranges
    wire              packets and frames, and their layouts
    wire_reading      reading packets and frames
    wire_writing      writing packets and frames
    round_trip        the round-trip estimate
    congestion        the congestion window; NewReno
    cubic             CUBIC
    tolerant_cubic    CUBIC that ignores losses that are not congestion
    received_numbers  the packet numbers received, and when to acknowledge them
    sending_half      the sending half of a stream
    receiving_half    the receiving half of a stream
    stream_state      a stream: both halves
    windows           the receive windows of the streams
    stream_table      the streams by number, and the limits on their count
    control_frames    frames that are written at the time they are sent
    recovery          loss detection and retransmission
    packet_builder    the packets to send next
    connection        the streams between two connection ids
    stream_timers     the timers by name
    connection_stages the state machine of a connection
    conversation      the successive connections with one host
"""
