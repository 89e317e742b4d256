//! One long stream compressed on several cores.
//!
//! [`Workers`] are threads that compress blocks for everybody who asks; every [`Encoder`] cuts
//! what is written to it into blocks, hands them over, and writes the results to its sink in
//! order, in the thread that writes. One archive thus keeps all cores busy, and many archives
//! share them without more threads.
//!
//! Memory: an encoder has at most `depth` blocks ([`memory_bound`]); when all of them are on
//! their way, writing waits for the oldest. A worker holds one codec's state.
//!
//! The bytes of the stream depend on what was written and on the codec, never on the number of
//! workers, the depth, or how the writes were cut.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread,
};

use super::blocks::{Block, Framing, Scratch, block_size};
use crate::model::compression::{Codec, Compression};

/// The most memory that one encoder of this depth holds in its blocks, in bytes.
pub fn memory_bound(codec: Codec, depth: usize) -> usize {
    // A block's input with its history, and its output, which is no larger than the input but
    // for some headers and the slack of a growing buffer.
    depth.max(2) * (block_size(codec) * 9 / 4 + (64 << 10))
}

/// Threads that compress blocks; a handle that is cheap to clone.
///
/// The threads end when the last handle and the last encoder are gone.
#[derive(Clone)]
pub struct Workers(Arc<Pool>);

struct Pool {
    jobs: Option<SyncSender<Job>>,
    threads: Vec<thread::JoinHandle<()>>,
}

struct Job {
    codec: Codec,
    block: Block,
    reply: SyncSender<io::Result<Block>>,
}

impl Workers {
    /// Starts so many threads; with none, blocks are compressed in the thread that writes.
    pub fn start(threads: usize) -> io::Result<Self> {
        if threads == 0 {
            return Ok(Self(Arc::new(Pool {
                jobs: None,
                threads: Vec::new(),
            })));
        }
        // A queue as long as what the workers are busy with: more would only wait here instead of
        // in the encoder.
        let (jobs, queue) = sync_channel::<Job>(threads);
        let queue = Arc::new(Mutex::new(queue));
        let threads = (0..threads)
            .map(|number| {
                let queue = Arc::clone(&queue);
                thread::Builder::new()
                    .name(format!("compress-{number}"))
                    .spawn(move || work(&queue))
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self(Arc::new(Pool {
            jobs: Some(jobs),
            threads,
        })))
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.0.threads.len()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Closing the queue ends the threads; a panic in one was already seen by its encoder.
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    let mut scratch = Scratch::new();
    loop {
        let Ok(receiver) = queue.lock() else { return };
        let job = receiver.recv();
        drop(receiver);
        let Ok(Job {
            codec,
            mut block,
            reply,
        }) = job
        else {
            return;
        };
        let result = scratch.compress(codec, &mut block).map(|()| block);
        // An encoder that failed meanwhile is gone and wants no answer.
        let _answered = reply.send(result);
    }
}

/// Compresses what is written to it, block by block, on the workers' threads.
pub struct Encoder<W: Write> {
    sink: W,
    codec: Codec,
    workers: Workers,
    /// For blocks that are compressed in this thread.
    scratch: Option<Box<Scratch>>,
    framing: Framing,
    filling: Block,
    underway: VecDeque<Receiver<io::Result<Block>>>,
    spare: Vec<Block>,
    depth: usize,
}

impl<W: Write> Encoder<W> {
    /// Starts a stream with at most `depth` blocks in memory, two at least.
    ///
    /// To keep all workers busy with one stream, `depth` should be twice their number; with
    /// several streams at a time, that number divided among them.
    pub fn new(codec: Codec, workers: &Workers, depth: usize, mut sink: W) -> io::Result<Self> {
        Ok(Self {
            framing: Framing::start(codec, &mut sink)?,
            sink,
            codec,
            workers: workers.clone(),
            scratch: workers.0.jobs.is_none().then(|| Box::new(Scratch::new())),
            filling: Block::default(),
            underway: VecDeque::new(),
            spare: Vec::new(),
            depth: depth.max(2),
        })
    }

    /// The sink, which has got all blocks but those still on their way.
    pub fn get_ref(&self) -> &W {
        &self.sink
    }

    /// Waits for all blocks, ends the stream and gives the sink back; the sink itself is not
    /// flushed.
    pub fn finish(mut self) -> io::Result<W> {
        // An empty xz or zstd stream still has one block, an empty one.
        let is_framed = matches!(
            self.codec.compression(),
            Compression::Xz | Compression::Zstd
        );
        let is_first = self.underway.is_empty() && self.spare.is_empty();
        if !self.filling.piece().is_empty() || is_framed && is_first {
            self.dispatch()?;
        }
        while let Some(reply) = self.underway.pop_front() {
            self.collect(reply.recv().map_err(lost)?)?;
        }
        self.framing.end(&mut self.sink)?;
        Ok(self.sink)
    }

    /// Hands the filled block over and takes an empty one.
    fn dispatch(&mut self) -> io::Result<()> {
        let mut next = self.vacant()?;
        next.restart(self.codec, &self.filling.input);
        let mut block = std::mem::replace(&mut self.filling, next);
        if let Some(scratch) = &mut self.scratch {
            scratch.compress(self.codec, &mut block)?;
            return self.collect(Ok(block));
        }
        let (reply, answer) = sync_channel(1);
        let job = Job {
            codec: self.codec,
            block,
            reply,
        };
        let jobs = self.workers.0.jobs.as_ref();
        jobs.expect("without threads there is a scratch")
            .send(job)
            .map_err(lost)?;
        self.underway.push_back(answer);
        Ok(())
    }

    /// A block to fill: a used one, a new one, or, at the limit, the next that is finished.
    fn vacant(&mut self) -> io::Result<Block> {
        // Writing what is finished as early as possible keeps the sink busy.
        while let Some(reply) = self.underway.front() {
            match reply.try_recv() {
                Ok(result) => {
                    self.underway.pop_front();
                    self.collect(result)?;
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(lost(())),
            }
        }
        // The block being filled counts, too.
        if self.spare.is_empty() && self.underway.len() + 1 >= self.depth {
            let reply = self
                .underway
                .pop_front()
                .expect("the depth is two at least");
            self.collect(reply.recv().map_err(lost)?)?;
        }
        Ok(self.spare.pop().unwrap_or_default())
    }

    /// Writes a finished block and keeps its buffers.
    fn collect(&mut self, result: io::Result<Block>) -> io::Result<()> {
        let block = result?;
        self.framing.add(&block, &mut self.sink)?;
        self.spare.push(block);
        Ok(())
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.codec.compression() == Compression::None {
            return self.sink.write(bytes);
        }
        let size = block_size(self.codec);
        if self.filling.piece().len() == size {
            self.dispatch()?;
        }
        let missing = self.filling.history + size - self.filling.input.len();
        self.filling.input.reserve_exact(missing);
        let taken = bytes.len().min(size - self.filling.piece().len());
        self.filling.input.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Does nothing: a flush in mid-stream would only make the stream longer.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lost<E>(_: E) -> io::Error {
    io::Error::other("a compressing thread died")
}
