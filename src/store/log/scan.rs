//! Reading a log file from end to end, whatever state it is in: whole records
//! are found wherever they are, and what is not one is told.

use super::record::{FILE_HEADER_BYTES, HEADER_BYTES, Header};
use crate::store::octets::ALIGNMENT;

/// A place in a file that holds no whole record although it should or could.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Damage {
    /// From this octet of the file.
    pub from: u64,
    /// Up to, not including, this one.
    pub to: u64,
    /// What it means.
    pub kind: DamageKind,
}

/// What a place without a whole record means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DamageKind {
    /// What was there had been made durable: something is lost.
    Lost,
    /// It was being written when the process or the machine stopped, or is
    /// damage that cannot be told from that: nothing behind it was durable.
    Torn,
}

/// What a scan found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::store) struct Scan {
    /// Octets up to the end of the last record.
    pub(in crate::store) used: u64,
    pub(in crate::store) records: u64,
    pub(in crate::store) damages: Vec<Damage>,
}

/// Visits the whole records of file `number`. `last_index` is the index of the
/// record before, also from one file to the next.
pub(in crate::store) fn scan<'a>(
    octets: &'a [u8],
    number: u64,
    last_index: &mut u64,
    mut visit: impl FnMut(&Header, &'a [u8]),
) -> Scan {
    let mut scan = Scan::default();
    let mut at = FILE_HEADER_BYTES;
    loop {
        let found = whole_record(octets, at, number)
            .map(|found| (at, found))
            .or_else(|| next_record(octets, at, number));
        let Some((start, (header, payload))) = found else {
            break;
        };
        // Of a used file, records of this life are in the order of their
        // indexes; what breaks it is a leftover.
        if start > at {
            let kind = if header.synced > *last_index {
                DamageKind::Lost
            } else {
                DamageKind::Torn
            };
            scan.damages.push(damage(at, start, kind));
        }
        visit(&header, payload);
        *last_index = header.index.max(*last_index);
        scan.records += 1;
        at = start + header.record_bytes();
    }
    scan.used = at as u64;
    let rest = octets.get(at..).unwrap_or_default();
    // Files have their full length before they are used, so that there is always
    // room for the end mark: one without was cut off.
    if rest.get(..ALIGNMENT) != Some(&[0; ALIGNMENT]) {
        let (from, to) = (at.min(octets.len()), octets.len());
        scan.damages.push(damage(from, to, DamageKind::Torn));
    }
    scan
}

fn damage(from: usize, to: usize, kind: DamageKind) -> Damage {
    Damage {
        from: from as u64,
        to: to as u64,
        kind,
    }
}

fn whole_record(octets: &[u8], at: usize, number: u64) -> Option<(Header, &[u8])> {
    let rest = octets.get(at..)?;
    let header = Header::decode(rest).filter(|header| header.file == number)?;
    let payload = rest.get(HEADER_BYTES..HEADER_BYTES + header.payload_bytes as usize)?;
    (crc32c::crc32c(payload) == header.payload_crc).then_some((header, payload))
}

fn next_record(octets: &[u8], at: usize, number: u64) -> Option<(usize, (Header, &[u8]))> {
    let mut at = at + ALIGNMENT;
    while at + HEADER_BYTES <= octets.len() {
        if let Some(found) = whole_record(octets, at, number) {
            return Some((at, found));
        }
        at += ALIGNMENT;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::record::{Layout, RecordKind, file_header};
    use super::*;
    use crate::store::octets;

    fn file(records: &[&[u8]], synced_before: bool) -> Vec<u8> {
        let mut out = file_header(7).to_vec();
        for (number, payload) in records.iter().enumerate() {
            let index = number as u64 + 1;
            let header = Header {
                layout: Layout::V2,
                kind: RecordKind::Settled,
                flags: 0,
                payload_bytes: payload.len() as u32,
                payload_crc: crc32c::crc32c(payload),
                file: 7,
                index,
                synced: if synced_before { index - 1 } else { 0 },
            };
            out.extend_from_slice(&header.encode());
            out.extend_from_slice(payload);
            octets::pad(&mut out);
        }
        out.extend_from_slice(&[0; 64]);
        out
    }

    fn read(octets: &[u8]) -> (Vec<Vec<u8>>, Scan) {
        let mut payloads = Vec::new();
        let scan = scan(octets, 7, &mut 0, |_, payload| {
            payloads.push(payload.to_vec());
        });
        (payloads, scan)
    }

    #[test]
    fn a_damaged_record_hides_none_behind_it() {
        let octets = file(&[b"first", b"second", b"third"], true);
        let (all, scan) = read(&octets);
        assert_eq!((all.len(), scan.damages.len()), (3, 0));
        for place in FILE_HEADER_BYTES..scan.used as usize {
            let mut flipped = octets.clone();
            flipped[place] ^= 1;
            let (left, scan) = read(&flipped);
            let padding = left.len() == 3;
            assert!(padding || left.len() == 2, "octet {place}: {}", left.len());
            assert_eq!(scan.damages.is_empty(), padding, "octet {place}");
            if !padding && left.contains(&b"third".to_vec()) {
                assert_eq!(scan.damages[0].kind, DamageKind::Lost, "octet {place}");
            }
        }
    }

    #[test]
    fn what_was_never_synced_is_torn() {
        let mut octets = file(&[b"first", b"second", b"third"], false);
        octets[FILE_HEADER_BYTES + HEADER_BYTES] ^= 1;
        let (left, scan) = read(&octets);
        assert_eq!(left.len(), 2);
        assert_eq!(scan.damages[0].kind, DamageKind::Torn);
    }

    #[test]
    fn zeros_in_the_middle_hide_nothing() {
        let mut octets = file(&[b"first", b"second", b"third"], true);
        octets[FILE_HEADER_BYTES..FILE_HEADER_BYTES + 64].fill(0);
        let (left, scan) = read(&octets);
        assert_eq!(left, [b"second".to_vec(), b"third".to_vec()]);
        assert_eq!(scan.damages[0].kind, DamageKind::Lost);
    }
}
