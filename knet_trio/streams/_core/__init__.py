"""The protocol of streams without I/O.

Nothing here knows of trio, channels, clocks or randomness: callers pass ``now`` (seconds on any
steady clock) and the packets that arrived, and are told what to send, which streams have news, and
when to call again. ``docs/streams-protocol.md`` describes the protocol. From the bottom up::

    limits            the numbers of the protocol
    faults            what can be wrong with a packet
    quick_enum        enums that are looked up in tables
    range_set         sets of integers, as ranges
    wire              packets and frames, and their layouts
    wire_reading      packets and frames from bytes
    wire_writing      packets and frames to bytes
    round_trip        the round trip, as it is measured
    congestion        how many bytes may be on their way; NewReno
    cubic             CUBIC
    tolerant_cubic    CUBIC that does not take every loss for congestion
    received_numbers  which packets have arrived, and when that is acknowledged
    sending_half      what one side sends on a stream
    receiving_half    what one side receives on a stream
    stream_state      both halves
    windows           how many bytes each stream may send
    stream_table      streams by their numbers, and how many there may be
    control_frames    frames that are made when they are sent
    recovery          which packets are lost
    packet_builder    what is sent next, in packets
    connection        the streams between two ids
    stream_timers     the timers by name
    connection_stages the life of a connection, as a table
    conversation      one connection after the other with a host
"""
