//! The envelope of everything in the log: a header that says what a record is
//! and proves that it is whole. `docs/storage.md` has the layout.

use crate::store::octets::{self, ALIGNMENT, Reader};

/// Octets of a record's header.
pub(in crate::store) const HEADER_BYTES: usize = 56;
/// Octets of a log file's header.
pub(in crate::store) const FILE_HEADER_BYTES: usize = 64;
/// What a payload may have at most; a longer one is damaged.
pub(in crate::store) const PAYLOAD_BYTES_MAX: usize = 1 << 30;

const FILE_MAGIC: [u8; 8] = *b"LEVRLOG\0";
/// The version of the log's format.
pub(in crate::store) const FORMAT_VERSION: u16 = 2;
/// The version of the rules by which records change a queue. A replicated log
/// will have to know it.
const MACHINE_VERSION: u16 = 1;

/// How what a record or a page holds is laid out; its magic says which, so that
/// it can be read without its file's header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) enum Layout {
    /// Of version 1, which knew no times.
    V1,
    V2,
}

/// What a record holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RecordKind {
    /// Messages with the queues and places they went to, and settlements that
    /// count with them or not at all.
    Messages,
    /// Settlements and returns.
    Settled,
    /// What is settled in every queue up to here.
    Checkpoint,
}

/// A record's header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) struct Header {
    pub(in crate::store) layout: Layout,
    pub(in crate::store) kind: RecordKind,
    pub(in crate::store) flags: u8,
    pub(in crate::store) payload_bytes: u32,
    pub(in crate::store) payload_crc: u32,
    /// Number of the file that it was written to: a file is used again, and
    /// what is left of its former life is no record of the new one.
    pub(in crate::store) file: u64,
    /// Position in the log, from 1.
    pub(in crate::store) index: u64,
    /// Up to where the log was known to be durable when this was written.
    pub(in crate::store) synced: u64,
}

/// Written by a clean stop.
pub(in crate::store) const FLAG_CLEAN: u8 = 1;
/// Messages that were written before and moved here from an older file.
pub(in crate::store) const FLAG_CARRIED: u8 = 2;

impl Layout {
    fn magic(self) -> [u8; 4] {
        match self {
            Self::V1 => *b"LVR1",
            Self::V2 => *b"LVR2",
        }
    }

    fn from_magic(magic: &[u8]) -> Option<Self> {
        // Asked at each place of what is left of a file: a plain comparison.
        match magic {
            b"LVR1" => Some(Self::V1),
            b"LVR2" => Some(Self::V2),
            _ => None,
        }
    }

    /// The checksum of a record's or a page's header, without the octets where
    /// it stands. It covers the magic too since there is more than one.
    pub(in crate::store) fn header_crc(self, header: &[u8]) -> u32 {
        let rest = header.get(CRC_FROM..).unwrap_or_default();
        match self {
            Self::V1 => crc32c::crc32c(rest),
            Self::V2 => {
                let magic = header.get(..4).unwrap_or_default();
                crc32c::crc32c_append(crc32c::crc32c(magic), rest)
            }
        }
    }
}

impl RecordKind {
    fn code(self) -> u8 {
        match self {
            Self::Messages => 1,
            Self::Settled => 2,
            Self::Checkpoint => 3,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Messages, Self::Settled, Self::Checkpoint]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

impl Header {
    /// Octets of the whole record in the file.
    pub(in crate::store) fn record_bytes(&self) -> usize {
        (HEADER_BYTES + self.payload_bytes as usize).next_multiple_of(ALIGNMENT)
    }

    pub(in crate::store) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&self.layout.magic());
        octets::put_u32(&mut out, 0);
        octets::put_u32(&mut out, self.payload_bytes);
        octets::put_u32(&mut out, self.payload_crc);
        out.push(self.kind.code());
        out.push(self.flags);
        out.extend_from_slice(&MACHINE_VERSION.to_le_bytes());
        octets::put_u32(&mut out, GROUP);
        octets::put_u64(&mut out, self.file);
        octets::put_u64(&mut out, TERM);
        octets::put_u64(&mut out, self.index);
        octets::put_u64(&mut out, self.synced);
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(&out);
        let crc = self.layout.header_crc(&header);
        header[4..CRC_FROM].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// The header at the start of `octets`; `None` if there is no whole and
    /// right one.
    pub(in crate::store) fn decode(octets: &[u8]) -> Option<Self> {
        let header = octets.get(..HEADER_BYTES)?;
        let mut reader = Reader::new(header);
        let layout = Layout::from_magic(reader.octets(4)?)?;
        if reader.u32()? != layout.header_crc(header) {
            return None;
        }
        let payload_bytes = reader.u32()?;
        let payload_crc = reader.u32()?;
        let kind = RecordKind::from_code(reader.u8()?)?;
        let flags = reader.u8()?;
        let (_machine, _group) = (reader.u16()?, reader.u32()?);
        let file = reader.u64()?;
        let _term = reader.u64()?;
        let header = Self {
            layout,
            kind,
            flags,
            payload_bytes,
            payload_crc,
            file,
            index: reader.u64()?,
            synced: reader.u64()?,
        };
        (payload_bytes as usize <= PAYLOAD_BYTES_MAX).then_some(header)
    }
}

/// The header of a log file.
pub(in crate::store) fn file_header(number: u64) -> [u8; FILE_HEADER_BYTES] {
    let mut header = [0; FILE_HEADER_BYTES];
    header[..8].copy_from_slice(&FILE_MAGIC);
    header[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&header[..24]);
    header[24..28].copy_from_slice(&crc.to_le_bytes());
    header
}

/// What a log file's header says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) enum FileHeader {
    /// Its number and its format's version.
    Whole {
        number: u64,
        version: u16,
    },
    /// Only zeros: it was prepared and not used yet.
    Blank,
    Damaged,
}

pub(in crate::store) fn read_file_header(octets: &[u8]) -> FileHeader {
    let Some(header) = octets.get(..FILE_HEADER_BYTES) else {
        return FileHeader::Blank;
    };
    if header.iter().all(|octet| *octet == 0) {
        return FileHeader::Blank;
    }
    let mut reader = Reader::new(header);
    let mut whole = || {
        let magic = reader.octets(8)?;
        let version = reader.u16()?;
        reader.octets(6)?;
        let number = reader.u64()?;
        let right = magic == FILE_MAGIC && reader.u32()? == crc32c::crc32c(&header[..24]);
        right.then_some(FileHeader::Whole { number, version })
    };
    whole().unwrap_or(FileHeader::Damaged)
}

/// The header's checksum covers what stands behind it.
const CRC_FROM: usize = 8;
/// The replication group and its term: this node alone, until queues are
/// replicated and several groups share the log.
const GROUP: u32 = 0;
const TERM: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        layout: Layout::V2,
        kind: RecordKind::Settled,
        flags: 0,
        payload_bytes: 20,
        payload_crc: 7,
        file: 3,
        index: 9,
        synced: 8,
    };

    #[test]
    fn a_header_reads_back_and_any_flipped_bit_shows() {
        let octets = HEADER.encode();
        assert_eq!(Header::decode(&octets), Some(HEADER));
        assert_eq!(HEADER.record_bytes(), 80);
        for place in 0..HEADER_BYTES {
            for bit in 0..8 {
                let mut flipped = octets;
                flipped[place] ^= 1 << bit;
                assert_eq!(Header::decode(&flipped), None, "octet {place}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_file_header_is_whole_blank_or_damaged() {
        let octets = file_header(5);
        let whole = FileHeader::Whole {
            number: 5,
            version: FORMAT_VERSION,
        };
        assert_eq!(read_file_header(&octets), whole);
        assert_eq!(read_file_header(&[0; 100]), FileHeader::Blank);
        assert_eq!(read_file_header(&octets[..30]), FileHeader::Blank);
        let mut flipped = octets;
        flipped[17] ^= 1;
        assert_eq!(read_file_header(&flipped), FileHeader::Damaged);
    }
}
