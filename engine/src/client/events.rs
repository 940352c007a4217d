//! Server-sent events, from bytes as they come.

/// Takes bytes, gives the data of whole events.
#[derive(Default, Debug)]
pub(super) struct Events {
    held: Vec<u8>,
}

impl Events {
    /// Takes bytes in and hands on the data of every event that is whole by now. Lines end with LF or CRLF; what is no `data:`
    /// line (comments, names of events) is left out.
    pub(super) fn push(&mut self, bytes: &[u8], mut event: impl FnMut(&str)) {
        self.held.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(length) = self.held[from..].iter().position(|&byte| byte == b'\n') {
            let line = self.held[from..from + length].strip_suffix(b"\r").unwrap_or(&self.held[from..from + length]);
            if let Some(data) = line.strip_prefix(b"data:") {
                // Every server of language models sends an event's data in one line.
                event(String::from_utf8_lossy(data.strip_prefix(b" ").unwrap_or(data)).as_ref());
            }
            from += length + 1;
        }
        self.held.drain(..from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_whole_however_they_are_cut() {
        let text = ": hello\r\n\r\ndata: {\"a\": \"ü\"}\r\n\r\nevent: x\ndata:b\n\ndata: [DONE]\n\ndata: cut";
        for cut in 1..text.len() {
            let mut events = Events::default();
            let mut got = Vec::new();
            for part in text.as_bytes().chunks(cut) {
                events.push(part, |data| got.push(data.to_owned()));
            }
            assert_eq!(got, ["{\"a\": \"ü\"}", "b", "[DONE]"], "cut at {cut}");
        }
    }
}
