//! Runs a filter as the kernel does, after the checks that the kernel makes.

/// `struct seccomp_data`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Data {
    pub(crate) nr: u32,
    pub(crate) arch: u32,
    pub(crate) ip: u64,
    pub(crate) args: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.nr,
            4 => self.arch,
            8 => self.ip as u32,
            12 => (self.ip >> 32) as u32,
            _ => {
                let arg = self.args[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

pub(crate) struct Machine {
    program: Vec<Instruction>,
}

const LD_W_ABS: u16 = 0x20;
const ALU_AND_K: u16 = 0x54;
const JA: u16 = 0x05;
const JEQ_K: u16 = 0x15;
const JGT_K: u16 = 0x25;
const JGE_K: u16 = 0x35;
const RET_K: u16 = 0x06;

impl Machine {
    /// Reads a program; panics on one that seccomp(2) would refuse.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        assert_eq!(bytes.len() % 8, 0);
        let word = |at: &[u8]| u32::from_ne_bytes(at.try_into().unwrap());
        let program: Vec<_> = bytes
            .chunks(8)
            .map(|b| Instruction {
                code: u16::from_ne_bytes([b[0], b[1]]),
                jt: b[2],
                jf: b[3],
                k: word(&b[4..8]),
            })
            .collect();
        assert!(!program.is_empty() && program.len() <= 4096, "{} instructions", program.len());
        for (at, instruction) in program.iter().enumerate() {
            let inside = |by: u32| assert!(at + 1 + (by as usize) < program.len(), "jump at {at}");
            match instruction.code {
                LD_W_ABS => assert!(instruction.k < 64 && instruction.k.is_multiple_of(4)),
                JA => inside(instruction.k),
                JEQ_K | JGT_K | JGE_K => {
                    inside(instruction.jt.into());
                    inside(instruction.jf.into());
                }
                ALU_AND_K | RET_K => {}
                code => panic!("instruction {code:#x} at {at}"),
            }
        }
        assert_eq!(program.last().unwrap().code, RET_K);
        Self { program }
    }

    pub(crate) fn len(&self) -> usize {
        self.program.len()
    }

    /// What the filter returns, and after how many instructions.
    pub(crate) fn run(&self, data: &Data) -> (u32, usize) {
        let (mut at, mut a) = (0, 0);
        for steps in 1.. {
            let Instruction { code, jt, jf, k } = self.program[at];
            at += 1;
            let branch = |holds: bool| usize::from(if holds { jt } else { jf });
            match code {
                LD_W_ABS => a = data.word(k),
                ALU_AND_K => a &= k,
                JA => at += k as usize,
                JEQ_K => at += branch(a == k),
                JGT_K => at += branch(a > k),
                JGE_K => at += branch(a >= k),
                _ => return (k, steps),
            }
        }
        unreachable!()
    }
}
