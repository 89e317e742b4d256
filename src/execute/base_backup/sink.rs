//! From a thread that builds an archive to the store.
//!
//! A [`Sink`] is what a builder writes to: it fills parts of one size and hands them to a task that sends them. A part takes its
//! place in the [`Parts`] budget when it begins to be filled and gives it back when it has arrived, so the budget bounds filling and
//! sending together. An archive that fits one part is written whole; a longer one is sent in parts, and nothing of it is visible
//! before the last. An archive whose sink is dropped unfinished, whose sending fails or is cancelled leaves nothing behind: its
//! upload is aborted.

use std::{
    collections::VecDeque,
    io::{self, Write},
    mem,
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_util::sync::CancellationToken;

use crate::{
    pipeline::throttle::Throttle,
    store::{
        self, Key, Meaning, Operation, PutMode, PutOptions, SharedStore, Stored, Tags, Upload,
        UploadOptions,
    },
};

/// How many full parts of one archive wait for their turn beside those that are being sent.
const QUEUE: usize = 1;

/// How many parts of one archive are sent at once.
const PARALLEL: usize = 4;

/// The budget of parts in memory, shared by all archives of a backup.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    semaphore: Arc<Semaphore>,
    bytes: u64,
}

impl Parts {
    /// Room for so many parts of this size. It must be more than the archives that are open at once.
    pub(super) fn new(count: usize, bytes: u64) -> Self {
        Self {
            semaphore: Arc::new(Semaphore::new(count)),
            bytes,
        }
    }

    /// The size of a part.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// An archive that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    /// Its length in bytes.
    pub(super) bytes: u64,
    /// The CRC-32C of all of them.
    pub(super) crc32c: u32,
    /// What the store said of it.
    pub(super) stored: Stored,
}

struct Part {
    content: Bytes,
    _room: OwnedSemaphorePermit,
}

enum Message {
    Part(Part),
    /// With the CRC-32C of all that was handed over.
    End(u32),
}

/// What a builder writes an archive to.
pub(super) struct Sink {
    runtime: Handle,
    parts: Parts,
    part_bytes: usize,
    sender: mpsc::Sender<Message>,
    filling: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
    written: u64,
    crc32c: u32,
}

/// The other end of a [`Sink`]: run it as a task.
pub(super) struct Sending {
    receiver: mpsc::Receiver<Message>,
    part_bytes: u64,
}

/// Where an archive goes, and how.
#[derive(Clone)]
pub(super) struct Target {
    /// The store.
    pub(super) store: SharedStore,
    /// The archive's key.
    pub(super) key: Key,
    /// The limit on bandwidth.
    pub(super) throttle: Option<Throttle>,
    /// Gives the archive up.
    pub(super) cancel: CancellationToken,
}

/// Makes the two ends. `part_bytes` is the budget's part size unless the archive needs larger ones.
pub(super) fn sink(runtime: Handle, parts: &Parts, part_bytes: u64) -> (Sink, Sending) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let sink = Sink {
        runtime,
        parts: parts.clone(),
        part_bytes: usize::try_from(part_bytes).unwrap_or(usize::MAX),
        sender,
        filling: Vec::new(),
        room: None,
        written: 0,
        crc32c: 0,
    };
    let sending = Sending {
        receiver,
        part_bytes,
    };
    (sink, sending)
}

impl Sink {
    /// How many bytes were written to it.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// How long the archive may become.
    pub(super) fn capacity(&self, parts_max: u32) -> u64 {
        (self.part_bytes as u64).saturating_mul(parts_max.into())
    }

    /// Hands over the last part. That it has arrived is told by [`Sending::run`].
    pub(super) fn finish(mut self) -> io::Result<()> {
        if !self.filling.is_empty() {
            self.hand_over()?;
        }
        let end = Message::End(self.crc32c);
        self.sender.blocking_send(end).map_err(gone)
    }

    /// Waits for room for one more part.
    fn begin_part(&mut self) -> io::Result<()> {
        let semaphore = Arc::clone(&self.parts.semaphore);
        let closed = self.sender.closed();
        // Whoever sends may fail while there is no room.
        let room = self.runtime.block_on(async {
            tokio::select! {
                biased;
                room = semaphore.acquire_owned() => room.ok(),
                () = closed => None,
            }
        });
        self.room = Some(room.ok_or_else(|| gone(()))?);
        self.filling = Vec::with_capacity(self.part_bytes);
        Ok(())
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let content = Bytes::from(mem::take(&mut self.filling));
        let room = self.room.take().expect("a part that has bytes has room");
        let part = Part {
            content,
            _room: room,
        };
        let sent = self.sender.blocking_send(Message::Part(part));
        sent.map_err(gone)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        // A full part is handed over only when more comes, so that there is always a last one.
        if self.filling.len() == self.part_bytes {
            self.hand_over()?;
        }
        if self.room.is_none() {
            self.begin_part()?;
        }
        let taken = bytes.len().min(self.part_bytes - self.filling.len());
        self.filling.extend_from_slice(&bytes[..taken]);
        self.crc32c = crc32c::crc32c_append(self.crc32c, &bytes[..taken]);
        self.written += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gone<E>(_: E) -> io::Error {
    io::Error::other("the upload has ended")
}

impl Sending {
    /// Sends what the builder hands over. Whatever goes wrong, nothing is left in the store.
    pub(super) async fn run(mut self, target: Target) -> store::Result<Arrived> {
        let first = match self.next(&target).await? {
            Message::Part(part) => part,
            Message::End(_) => unreachable!("a tar archive is never empty"),
        };
        match self.next(&target).await? {
            Message::End(crc32c) => put(&target, first, crc32c).await,
            Message::Part(second) => self.in_parts(&target, first, second).await,
        }
    }

    /// The next part or the end; an error if the builder gave up.
    async fn next(&mut self, target: &Target) -> store::Result<Message> {
        let message = tokio::select! {
            biased;
            () = target.cancel.cancelled() => None,
            message = self.receiver.recv() => message,
        };
        message.ok_or_else(|| interrupted(target))
    }

    async fn in_parts(
        mut self,
        target: &Target,
        first: Part,
        second: Part,
    ) -> store::Result<Arrived> {
        let options = UploadOptions {
            part_bytes: self.part_bytes,
            mode: PutMode::Overwrite,
            tags: Tags::Configured,
        };
        let upload = target.store.begin_upload(&target.key, options).await?;
        let result = self.send_parts(target, &*upload, [first, second]).await;
        match result {
            Ok(arrived) => Ok(arrived),
            Err(error) => {
                // The first error says why; one of giving up would only hide it.
                if let Err(error) = upload.abort().await {
                    tracing::warn!(key = %target.key, %error, "an upload could not be aborted");
                }
                Err(error)
            }
        }
    }

    async fn send_parts(
        &mut self,
        target: &Target,
        upload: &dyn Upload,
        first: [Part; 2],
    ) -> store::Result<Arrived> {
        let mut waiting = VecDeque::from(first);
        let mut sending = FuturesUnordered::new();
        let (mut arrived, mut number, mut bytes) = (Vec::new(), 0, 0);
        let mut crc32c = None;
        loop {
            while sending.len() < PARALLEL
                && let Some(part) = waiting.pop_front()
            {
                number += 1;
                bytes += part.content.len() as u64;
                sending.push(send_part(target, upload, number, part));
            }
            if let Some(crc32c) = crc32c.filter(|_| sending.is_empty()) {
                arrived.sort_by_key(|part: &store::Part| part.number);
                let stored = upload.complete(arrived).await?;
                return Ok(Arrived {
                    bytes,
                    crc32c,
                    stored,
                });
            }
            tokio::select! {
                biased;
                () = target.cancel.cancelled() => return Err(interrupted(target)),
                Some(part) = sending.next() => arrived.push(part?),
                message = self.receiver.recv(), if crc32c.is_none() && sending.len() < PARALLEL => {
                    match message.ok_or_else(|| interrupted(target))? {
                        Message::Part(part) => waiting.push_back(part),
                        Message::End(crc) => crc32c = Some(crc),
                    }
                }
            }
        }
    }
}

async fn send_part(
    target: &Target,
    upload: &dyn Upload,
    number: u32,
    part: Part,
) -> store::Result<store::Part> {
    if let Some(throttle) = &target.throttle {
        throttle.pace(part.content.len() as u64).await;
    }
    upload.put_part(number, part.content).await
}

async fn put(target: &Target, part: Part, crc32c: u32) -> store::Result<Arrived> {
    let bytes = part.content.len() as u64;
    if let Some(throttle) = &target.throttle {
        throttle.pace(bytes).await;
    }
    let options = PutOptions::mode(PutMode::Overwrite);
    let stored = target.store.put(&target.key, part.content, options).await?;
    Ok(Arrived {
        bytes,
        crc32c,
        stored,
    })
}

fn interrupted(target: &Target) -> store::Error {
    let location = target.store.location();
    store::Error::new(Meaning::Interrupted, Operation::Put, location).about(&target.key)
}
