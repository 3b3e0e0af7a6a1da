//! Frames of several buffers, such as jumbo frames: a program says by the name of its section that it
//! can do with them, `xdp.frags`, which Linux knows since 5.18. Pure.

/// The name of the section, as tables of strings have it.
const WITH: &[u8] = b"xdp.frags\0";
/// Up to here it is `xdp`.
const NAME_LEN: usize = 3;

/// The same object, whose program does not say so.
///
/// The name is cut in place, in the ELF file's table of strings and in that of its BTF: offsets, and the
/// names that others share with it from behind, stay valid.
pub(in crate::datapath) fn without(object: &[u8]) -> Vec<u8> {
    let mut object = object.to_vec();
    let mut from = 0;
    while let Some(at) = object[from..].windows(WITH.len()).position(|bytes| bytes == WITH) {
        from += at + NAME_LEN;
        object[from] = 0;
    }
    object
}

#[cfg(test)]
mod tests {
    use super::super::OBJECT;
    use super::*;

    #[test]
    fn a_name_is_cut_wherever_it_stands() {
        assert_eq!(without(b"\0.relxdp.frags\0xdp.fragsx\0"), b"\0.relxdp\0frags\0xdp.fragsx\0");
        assert_eq!(without(b"\0xdp.frags\0xdp.frags\0"), b"\0xdp\0frags\0xdp\0frags\0");
        assert_eq!(without(b""), b"");
    }

    #[test]
    fn the_program_of_our_object_loses_its_flag_and_nothing_else() {
        let cut = without(OBJECT);
        assert_eq!(cut.len(), OBJECT.len());
        assert!(section_names(OBJECT).contains(&"xdp.frags".to_owned()));
        let names = section_names(&cut);
        assert!(names.contains(&"xdp".to_owned()), "{names:?}");
        assert!(names.iter().all(|name| !name.contains("frags")), "{names:?}");
        let changed = OBJECT.iter().zip(&cut).filter(|(before, after)| before != after);
        assert!(changed.clone().count() <= 2, "the two tables of strings");
        assert!(changed.into_iter().all(|pair| pair == (&b'.', &0)));
    }

    /// Of the section headers of an ELF file of 64 bits, little-endian.
    fn section_names(elf: &[u8]) -> Vec<String> {
        let number = |at: usize, size: usize| {
            let bytes = elf[at..at + size].iter().rev();
            bytes.fold(0, |number, byte| number << 8 | usize::from(*byte))
        };
        let (headers, size, count) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2));
        let strings = number(headers + number(0x3e, 2) * size + 0x18, 8);
        (0..count)
            .map(|index| {
                let name = &elf[strings + number(headers + index * size, 4)..];
                let end = name.iter().position(|byte| *byte == 0).unwrap();
                String::from_utf8(name[..end].to_vec()).unwrap()
            })
            .collect()
    }
}
