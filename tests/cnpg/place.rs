//! Where the commands are called: an image's root directory, or this machine.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::support::{
    bed::{bed, run},
    cluster::Cluster,
    s3::Server,
};

/// Nobody has this number here; it is the one that the plugin's containers run as.
const USER: &str = "26";

/// Makes the image's root read-only, but for one directory, and goes there. The mounts are gone with the process.
const ENTER: &str = r#"
root=$1 home=$2 group=$3; shift 3
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount --bind "$home" "$root$home"
umask 077
exec chroot --userspec="26:$group" --groups= "$root" "$@"
"#;

/// Whose commands are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Those of the image that `packaging/cnpg/rootfs` makes, as uid 26.
    Barkeep,
    /// Barman's, on this machine.
    Barman,
}

/// Everything that a Pod has for the sidecar, and the store.
pub(crate) struct Place {
    whose: Whose,
    /// PGDATA, the scratch directory and the spool are below: all that can be written.
    home: PathBuf,
    /// The image, for barkeep.
    root: Option<tempfile::TempDir>,
    programs: PathBuf,
    pub(crate) store: Server,
    pub(crate) cluster: Cluster,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    #[expect(dead_code, reason = "a failed assertion prints it")]
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            // A shell's word for death by a signal, which the plugin takes for an inner error.
            code: output.status.code().unwrap_or(137),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Place {
    /// A started cluster, an empty bucket and the commands; `None` after saying what is missing.
    pub(crate) fn new(whose: Whose, major: u32) -> Option<Self> {
        let programs = bed().get("BARMAN_BIN")?;
        let store = Server::moto()?;
        // As its group, so that uid 26 can read it: the cluster itself runs as the bed's user.
        let mut cluster = Cluster::create_with(major, &["--allow-group-access"])?;
        let root = match whose {
            Whose::Barkeep => Some(image()?),
            Whose::Barman => None,
        };
        let home = cluster.socket_directory().to_owned();
        store.send("PUT", "/backups", "", "");
        let controller = home.join("controller");
        for directory in ["tmp", "backup", "recovery", "wal-restore-spool"] {
            std::fs::create_dir_all(controller.join(directory)).expect("a directory");
        }
        let open = |path: &Path, mode| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(path, permissions).expect("our own directory");
        };
        // Tests play the part of the plugin in the same directories as another user.
        for directory in ["", "tmp", "backup", "recovery", "wal-restore-spool"] {
            open(&controller.join(directory), 0o777);
        }
        open(&home, 0o755);
        if let Some(root) = &root {
            std::fs::create_dir_all(root.path().join(home.strip_prefix("/").expect("absolute")))
                .expect("a mount point");
        }
        cluster.start();
        Some(Self {
            whose,
            home,
            root,
            programs,
            store,
            cluster,
        })
    }

    /// The scratch directory, `/controller` in a Pod.
    pub(crate) fn controller(&self) -> PathBuf {
        self.home.join("controller")
    }

    /// A command by its bare name with nothing but this environment, the working directory `/` and no home.
    pub(crate) fn command(
        &self,
        program: &str,
        arguments: &[String],
        environment: &BTreeMap<String, String>,
    ) -> Command {
        let mut command = match &self.root {
            Some(root) => {
                let group = bed().server_user().map(group);
                let group = group.as_deref().unwrap_or(USER);
                let mut command = Command::new("unshare");
                command
                    .args(["--mount", "--propagation", "private", "--"])
                    .args(["sh", "-euc", ENTER, "sh"])
                    .arg(root.path())
                    .arg(&self.home)
                    .arg(group)
                    .env_clear()
                    .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
                command
            }
            None => {
                let mut command = bed().as_server(Path::new("env"));
                let path = format!("{}:/usr/bin:/bin", self.programs.display());
                command.env_clear().env("PATH", path);
                command
            }
        };
        command
            .arg(program)
            .args(arguments)
            .envs(environment)
            .current_dir("/");
        command
    }

    /// What a process that PostgreSQL starts runs to call a command: with this environment, on this machine, whoever's it is.
    pub(crate) fn shell_command(
        &self,
        program: &str,
        arguments: &[String],
        environment: &BTreeMap<String, String>,
    ) -> String {
        let program = match self.whose {
            Whose::Barkeep => format!("{} {program}", env!("CARGO_BIN_EXE_barkeep")),
            Whose::Barman => self.programs.join(program).display().to_string(),
        };
        let variables = environment.iter();
        let variables: Vec<_> = variables
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let (variables, arguments) = (variables.join(" "), arguments.join(" "));
        format!("env {variables} {program} {arguments}")
    }
}

/// The number of a user's group.
fn group(user: &str) -> String {
    run(Command::new("id").args(["--group", user]))
}

/// The plugin's image as a directory; `None` where this process may not mount.
fn image() -> Option<tempfile::TempDir> {
    let may_mount = Command::new("unshare")
        .args(["--mount", "true"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !may_mount {
        bed().get("the right to mount, which root has");
        return None;
    }
    let root = tempfile::Builder::new().prefix("image.").tempdir_in("/tmp");
    let root = root.expect("a directory");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/cnpg/rootfs");
    run(Command::new(script)
        .arg(env!("CARGO_BIN_EXE_barkeep"))
        .arg(root.path()));
    let readable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(root.path(), readable).expect("our own directory");
    assert!(!root.path().join("etc/passwd").exists());
    Some(root)
}
