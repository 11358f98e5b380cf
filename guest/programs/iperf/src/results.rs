//! What the server tells the client about a test when it is over.

use crate::load::Load;
use alloc::string::String;
use core::fmt::Write;

/// The server's results as the client wants them. What a guest does not know of itself is 0.
pub(crate) fn describe(load: &Load) -> String {
    let mut text = String::from(
        "{\"cpu_util_total\":0,\"cpu_util_user\":0,\"cpu_util_system\":0,\
         \"sender_has_retransmits\":0,\"streams\":[",
    );
    for (index, stream) in load.streams.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "{comma}{{\"id\":{},\"bytes\":{},\"retransmits\":-1,\"jitter\":0,\"errors\":0,\
             \"omitted_errors\":0,\"packets\":0,\"omitted_packets\":0,\"start_time\":0,\
             \"end_time\":{:.6}}}",
            stream.id,
            stream.bytes(),
            load.seconds(),
        );
    }
    text.push_str("]}");
    text
}
