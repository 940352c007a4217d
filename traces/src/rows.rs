//! Stages of a replay: each takes requests from the one before.

use overbook_sim::workload::arrival::SessionId;

use crate::error::TraceError;
use crate::outcome::Recorded;
use crate::reader::Reader;

/// Requests and time between the first and the last, of one pass [file time].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extent {
    pub(crate) requests: u64,
    pub(crate) span_ns: u64,
}

/// A stage of the replay: requests in order, times since the first request of the file.
pub(crate) trait Rows {
    fn next_row(&mut self) -> Result<Option<Recorded>, TraceError>;
    fn reader(&self) -> &Reader;
    fn classes(&self) -> &[String];
}

/// Gives a copy of a request a content and a session of its own. Copy 0 is the original.
pub(crate) fn salt(request: &mut Recorded, copy: u64) {
    if copy == 0 {
        return;
    }
    let salt = salt_of(copy);
    if let Some(content) = &mut request.content {
        content.ids.iter_mut().for_each(|id| *id = id.wrapping_add(salt));
    }
    request.session = request.session.map(|session| salted(session, copy));
}

/// A jump that ids of other copies do not reach (the multiplier is that of Knuth's MMIX generator); none for copy 0.
pub(crate) fn salt_of(copy: u64) -> u64 {
    copy.wrapping_mul(6_364_136_223_846_793_005).rotate_left(29)
}

/// The session of a copy.
pub(crate) fn salted(session: SessionId, copy: u64) -> SessionId {
    SessionId::new(session.get().wrapping_add(salt_of(copy)))
}

/// Reads a pass to its end: the time of its first request, and its extent.
pub(crate) fn extent(reader: &mut Reader) -> Result<(u64, Extent), TraceError> {
    let Some(first) = reader.next_request()? else {
        return Err(reader.no_requests());
    };
    let mut last_ns = first.at_ns;
    while let Some(request) = reader.next_request()? {
        last_ns = request.at_ns;
    }
    Ok((first.at_ns, Extent { requests: reader.counts().taken, span_ns: last_ns - first.at_ns }))
}
