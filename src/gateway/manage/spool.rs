//! A file that is here only on its way: hashed as it comes, and gone with the process whatever happens.

use std::fs::OpenOptions;
use std::io::SeekFrom;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::error::{Fault, Kind};
use crate::gateway::random;

/// Longest file, bytes: the largest open models have about 1 TB unquantised, and a full disk stops us earlier.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 40;
/// Bytes read from the disk at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// A file that is being written.
pub(super) struct Spool {
    file: File,
    dir: PathBuf,
    hash: Sha256,
    bytes: u64,
}

/// A whole file.
pub(super) struct Sealed {
    file: File,
    pub(super) bytes: u64,
    /// 64 hexadecimal digits.
    pub(super) sha256: String,
}

impl Spool {
    /// # Errors
    /// `Internal` when the folder takes no file.
    pub(super) async fn new(state_dir: Option<&Path>) -> Result<Spool, Fault> {
        let dir = match state_dir {
            Some(dir) => dir.to_owned(),
            None => std::env::temp_dir(),
        };
        let path = dir.join(format!("arriero-{:016x}.part", random()));
        let folder = dir.clone();
        // In one go, or a client that leaves in between would leave the file's name behind.
        let opened = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(folder)?;
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true).mode(0o600);
            let file = options.open(&path)?;
            // Without a name it lives as long as it is open: not even SIGKILL leaves it behind.
            std::fs::remove_file(&path)?;
            Ok(File::from_std(file))
        });
        let opened = opened.await.unwrap_or_else(|error| Err(error.into()));
        match opened {
            Ok(file) => Ok(Spool {
                file,
                dir,
                hash: Sha256::new(),
                bytes: 0,
            }),
            Err(error) => Err(unwritable(&dir, &error)),
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// 413 when the file is longer than [`FILE_BYTES_MAX`], `Internal` when the disk is full.
    pub(super) async fn write(&mut self, piece: &Bytes) -> Result<(), Fault> {
        self.bytes += piece.len() as u64;
        if FILE_BYTES_MAX < self.bytes {
            let message = format!("the file is longer than {FILE_BYTES_MAX} bytes");
            return Err(Fault::refused(413, "file_too_large", message));
        }
        self.hash.update(piece);
        let written = self.file.write_all(piece).await;
        written.map_err(|error| unwritable(&self.dir, &error))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file is whole.
    ///
    /// # Errors
    /// `Internal` when the disk is full.
    pub(super) async fn seal(mut self) -> Result<Sealed, Fault> {
        let rewound = async {
            self.file.flush().await?;
            self.file.seek(SeekFrom::Start(0)).await
        };
        let rewound = rewound.await;
        rewound.map_err(|error| unwritable(&self.dir, &error))?;
        let digest = self.hash.finalize();
        Ok(Sealed {
            file: self.file,
            bytes: self.bytes,
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

impl Sealed {
    /// The next bytes, `None` at the end.
    ///
    /// # Errors
    /// `Internal` when the disk fails.
    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, Fault> {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        match self.file.read_buf(&mut piece).await {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(piece.freeze())),
            Err(error) => Err(Fault::new(
                Kind::Internal,
                format!("a temporary file can't be read: {error}"),
            )),
        }
    }
}

fn unwritable(dir: &Path, error: &std::io::Error) -> Fault {
    let message = format!(
        "the file can't be kept in {}: {error}; make room or set state_dir",
        dir.display()
    );
    Fault::new(Kind::Internal, message)
}
