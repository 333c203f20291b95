//! The memory behind buffers: anonymous pages, which direct IO accepts.
//!
//! A server asks for pages at its start and now and then. Whole ensembles on one thread (feature `sim`) do so thousands of
//! times a second, and the kernel would spend more time on it than everything else together: there a thread keeps the pages
//! that were given back.

use std::ops::{Deref, DerefMut};

#[cfg(feature = "sim")]
use kept::Memory;
#[cfg(not(feature = "sim"))]
use mapped::Memory;

#[derive(Debug)]
pub(crate) struct Pages {
    memory: Memory,
    bytes: usize,
}

impl Pages {
    /// What is in them is anybody's guess.
    ///
    /// # Panics
    /// When the machine has no memory to map, as any allocation does.
    pub fn new(bytes: usize) -> Pages {
        Pages { memory: Memory::map(bytes), bytes }
    }

    pub fn len(&self) -> usize {
        self.bytes
    }
}

impl Deref for Pages {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory.mapped()[..self.bytes]
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory.mapped_mut()[..self.bytes]
    }
}

#[cfg(not(feature = "sim"))]
mod mapped {
    use memmap2::MmapMut;

    #[derive(Debug)]
    pub struct Memory(MmapMut);

    impl Memory {
        pub fn map(bytes: usize) -> Memory {
            Memory(MmapMut::map_anon(bytes).expect("anonymous memory"))
        }

        pub fn mapped(&self) -> &MmapMut {
            &self.0
        }

        pub fn mapped_mut(&mut self) -> &mut MmapMut {
            &mut self.0
        }
    }
}

#[cfg(feature = "sim")]
mod kept {
    use std::cell::RefCell;

    use memmap2::MmapMut;

    /// Powers of two of a byte.
    const SIZES: usize = 27;
    /// Of each size.
    const KEPT_BYTES_MAX: usize = 16 << 20;

    thread_local! {
        static KEPT: RefCell<[Vec<MmapMut>; SIZES]> = const { RefCell::new([const { Vec::new() }; SIZES]) };
    }

    /// None only while it is given back.
    #[derive(Debug)]
    pub struct Memory(Option<MmapMut>);

    impl Memory {
        pub fn map(bytes: usize) -> Memory {
            let bytes = bytes.next_power_of_two();
            let size = bytes.ilog2() as usize;
            let kept = KEPT.try_with(|kept| kept.borrow_mut().get_mut(size).and_then(Vec::pop)).ok().flatten();
            Memory(Some(kept.unwrap_or_else(|| MmapMut::map_anon(bytes).expect("anonymous memory"))))
        }

        pub fn mapped(&self) -> &MmapMut {
            self.0.as_ref().expect("until it is given back")
        }

        pub fn mapped_mut(&mut self) -> &mut MmapMut {
            self.0.as_mut().expect("until it is given back")
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            let Some(memory) = self.0.take() else { return };
            // Where the thread is about to end, the kernel has it back.
            let _ = KEPT.try_with(|kept| {
                let size = memory.len().ilog2() as usize;
                if let Some(kept) = kept.borrow_mut().get_mut(size)
                    && (kept.len() + 1) << size <= KEPT_BYTES_MAX
                {
                    kept.push(memory);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_as_many_as_were_asked_for_whoever_had_them_before() {
        for _ in 0..2 {
            let mut pages = Pages::new(3 * 4096);
            assert_eq!((pages.len(), pages.deref().len()), (3 * 4096, 3 * 4096));
            assert_eq!(pages.as_ptr() as usize % 4096, 0);
            pages.fill(7);
            let other = Pages::new(4 * 4096);
            assert_ne!(other.as_ptr(), pages.as_ptr(), "nobody else has them meanwhile");
        }
    }
}
