//! Reads JPEG completely or not at all: decoders made for browsers fill the missing part of a truncated file with gray.
//!
//! Section and annex numbers are those of ITU-T T.81, which is ISO/IEC 10918-1.

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// One bits, inserted where a scan's data should continue. No Huffman code is all ones (annex C.2), so data that ends
/// too early runs into an invalid code, where the decoder would otherwise make up zeros. Eight bytes cover the rest of
/// a value (up to 16 bits) and a code (16), and as much again for read-ahead. In scan data, a zero follows each 0xFF.
const ONES: [u8; 16] = [0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0];

/// Markers (annex B.1.1.3): the second byte, after 0xFF.
const TEM: u8 = 0x01;
/// Start of a progressive frame.
const SOF2: u8 = 0xc2;
const RST0: u8 = 0xd0;
const RST7: u8 = 0xd7;
const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;

/// Why a JPEG is refused.
pub(super) enum Refusal {
    /// The file ends before the picture does.
    Cut,
    /// The decoder's message.
    Damaged(String),
    /// An unsupported kind of JPEG.
    Kind(&'static str),
    /// The pixels would take too many bytes.
    TooLarge { width: u32, height: u32, bytes: u64 },
}

/// The pixels of a JPEG, gray or RGB, and its orientation.
pub(super) fn decode(file: &[u8], most_bytes: u64) -> Result<(DynamicImage, Orientation), Refusal> {
    let guarded = guarded(file)?;
    // The format itself limits a side to 65,535; the number of pixels is limited below.
    let options = DecoderOptions::default().set_strict_mode(true).set_max_width(1 << 16).set_max_height(1 << 16);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(guarded.as_slice()), options);
    decoder.decode_headers().map_err(refusal)?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    let (width, height) = (width as u32, height as u32);
    let (colors, channels) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, 1),
        _ => (ColorSpace::RGB, 3),
    };
    let bytes = u64::from(width) * u64::from(height) * channels;
    if bytes > most_bytes {
        return Err(Refusal::TooLarge { width, height, bytes });
    }
    decoder.set_options(options.jpeg_set_out_colorspace(colors));
    let pixels = decoder.decode().map_err(refusal)?;
    // Unreadable Exif data says nothing about the orientation.
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    let picture = match colors {
        ColorSpace::Luma => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
        _ => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
    };
    let picture = picture.ok_or_else(|| Refusal::Damaged("it has fewer pixels than its header says".into()))?;
    Ok((picture, orientation.unwrap_or(Orientation::NoTransforms)))
}

fn refusal(error: DecodeErrors) -> Refusal {
    // Some messages are quoted, some end with a newline.
    let error = error.to_string();
    let error = error.trim_matches(|c: char| c == '"' || c.is_whitespace());
    Refusal::Damaged(format!("its data is not a complete picture ({error})"))
}

/// The file up to its end marker, with [`ONES`] wherever a restart or end marker ends scan data, and without the bytes
/// between segments that other decoders skip.
fn guarded(file: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut guarded = file.get(..2).ok_or(Refusal::Cut)?.to_vec();
    let mut at = 2;
    // Whether the bytes before the next marker are scan data.
    let mut in_scan = false;
    let (mut progressive, mut scans) = (false, 0);
    loop {
        // After 0xFF, a zero marks data and another 0xFF is padding.
        let marker = file[at..].windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff));
        let (skipped, rest) = file[at..].split_at(marker.ok_or(Refusal::Cut)?);
        let marker = rest[1];
        let length = match marker {
            TEM | RST0..=RST7 | SOI | EOI => 2,
            // Table B.1: frames that are lossless, differential or arithmetic-coded.
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return Err(Refusal::Kind("a JPEG that is neither baseline nor progressive"));
            }
            _ => match rest {
                &[_, _, high, low, ..] => 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => return Err(Refusal::Cut),
            },
        };
        if in_scan {
            guarded.extend(skipped);
            if matches!(marker, RST0..=RST7 | EOI) {
                guarded.extend(ONES);
            }
        }
        guarded.extend(rest.get(..length).ok_or(Refusal::Cut)?);
        if marker == EOI {
            return Ok(guarded);
        }
        progressive |= marker == SOF2;
        scans += u32::from(marker == SOS);
        if scans > 1 && !progressive {
            // The decoder misreads them if colors are subsampled vertically.
            return Err(Refusal::Kind("a JPEG with a scan for each color"));
        }
        in_scan = marker == SOS || in_scan && matches!(marker, RST0..=RST7);
        at += skipped.len() + length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 1 << 20;

    const BASELINE: &[u8] = include_bytes!("../../tests/fixtures/baseline.jpg");
    const RESTARTS: &[u8] = include_bytes!("../../tests/fixtures/restarts.jpg");
    /// Made by `make_fixtures.py` beside them.
    const KINDS: [(&str, &[u8]); 7] = [
        ("baseline", BASELINE),
        ("optimized", include_bytes!("../../tests/fixtures/optimized.jpg")),
        ("progressive", include_bytes!("../../tests/fixtures/progressive.jpg")),
        ("restarts", RESTARTS),
        ("progressive and restarts", include_bytes!("../../tests/fixtures/progressive_restarts.jpg")),
        ("gray", include_bytes!("../../tests/fixtures/gray.jpg")),
        ("cmyk", include_bytes!("../../tests/fixtures/cmyk.jpg")),
    ];

    fn pixels(file: &[u8]) -> Option<DynamicImage> {
        decode(file, MOST).ok().map(|(picture, _)| picture)
    }

    /// The position of the last marker of a kind.
    fn last(file: &[u8], marker: u8) -> usize {
        file.windows(2).rposition(|pair| pair == [0xff, marker]).unwrap()
    }

    #[test]
    fn whole_files_of_every_kind_are_read() {
        for (kind, file) in KINDS {
            let picture = pixels(file).unwrap();
            assert_eq!((picture.width(), picture.height()), (44, 36), "{kind}");
            // The guards change no pixel: the decoder gives the same without them.
            assert!(picture == image::load_from_memory(file).unwrap(), "{kind}");
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        for (kind, file) in KINDS {
            for length in 2..file.len() {
                assert!(
                    matches!(decode(&file[..length], MOST), Err(Refusal::Cut)),
                    "{kind}: {length} of {}",
                    file.len()
                );
            }
        }
    }

    #[test]
    fn a_cut_that_an_end_marker_hides_is_refused() {
        for (kind, file) in KINDS {
            let data = last(file, SOS) + 20..file.len() - 20;
            for length in data.step_by(7) {
                // A cut within a marker would leave a superfluous 0xFF.
                let cut = file[..length].strip_suffix(b"\xff").unwrap_or(&file[..length]);
                assert!(pixels(&[cut, b"\xff\xd9"].concat()).is_none(), "{kind}: {length} of {}", file.len());
            }
        }
    }

    #[test]
    fn a_hole_between_restart_markers_is_refused() {
        let second = last(RESTARTS, RST0 + 1);
        let third = last(RESTARTS, RST0 + 2);
        // Without the interval, and with only its first half.
        assert!(pixels(&[&RESTARTS[..second], &RESTARTS[third..]].concat()).is_none());
        let half = second + (third - second) / 2;
        assert!(pixels(&[&RESTARTS[..half], &RESTARTS[third..]].concat()).is_none());
    }

    #[test]
    fn data_that_are_overwritten_are_refused() {
        for (kind, file) in KINDS {
            let mut file = file.to_vec();
            let middle = (last(&file, SOS) + file.len()) / 2;
            file[middle..][..16].copy_from_slice(&ONES);
            assert!(matches!(decode(&file, MOST), Err(Refusal::Damaged(_))), "{kind}");
        }
    }

    #[test]
    fn what_other_decoders_skip_is_skipped() {
        let whole = pixels(BASELINE).unwrap();
        let tables = last(BASELINE, 0xdb);
        let end = BASELINE.len() - 2;
        for (what, file) in [
            ("behind the end", [BASELINE, b"\0\0garbage\xff\xd8\xff"].concat()),
            ("before the end", [&BASELINE[..end], &[0x12; 300], &BASELINE[end..]].concat()),
            ("between segments", [&BASELINE[..tables], b"some junk", &BASELINE[tables..]].concat()),
            ("fill bytes", [&BASELINE[..tables], b"\xff\xff\xff", &BASELINE[tables..]].concat()),
        ] {
            assert!(pixels(&file).is_some_and(|picture| picture == whole), "{what}");
        }
    }

    #[test]
    fn kinds_that_are_not_read_are_named() {
        // The same frame, declared as arithmetic-coded.
        let mut file = BASELINE.to_vec();
        let frame = last(&file, 0xc0);
        file[frame + 1] = 0xc9;
        assert!(matches!(decode(&file, MOST), Err(Refusal::Kind(kind)) if kind.contains("baseline")));
        // The scan twice.
        let (scan, end) = (last(BASELINE, SOS), BASELINE.len() - 2);
        let file = [&BASELINE[..end], &BASELINE[scan..]].concat();
        assert!(matches!(decode(&file, MOST), Err(Refusal::Kind(kind)) if kind.contains("scan for each color")));
    }
}
