/// Commands that make an unwatched process run others, one that is not their descendant: a daemon, a scheduler, another
/// machine.
enum Delegates {
  /// These may run fio whatever their arguments are: a container's entry point, a script.
  private static let always: Set<String> = [
    // Containers and virtual machines.
    "crictl", "ctr", "docker", "docker-compose", "flatpak-spawn", "incus", "lxc", "lxc-attach", "lxc-execute",
    "lxc-start", "machinectl", "nerdctl", "podman", "toolbox",
    // Schedulers of this machine and of clusters.
    "at", "batch", "bsub", "condor_submit", "flux", "oarsub", "qrsh", "qsub", "run0", "salloc", "sbatch", "srun",
    "systemd-run",
    // Terminals with a server.
    "gnome-terminal", "screen", "tmux",
  ]
  /// Commands with many other uses: refused only if an argument names fio.
  private static let withFio: Set<String> = [
    "adb", "ansible", "busctl", "clush", "crontab", "dbus-send", "dsh", "gdbus", "kubectl", "mosh", "mpiexec", "mpirun",
    "orterun", "parallel-ssh", "pdsh", "prun", "pssh", "rsh", "ssh", "systemctl", "virsh",
  ]

  /// - Parameters:
  ///   - name: the command's name, without its directory.
  ///   - arguments: all its words.
  static func hasOthersRun(_ name: String, _ arguments: [String]) -> Bool {
    always.contains(name) || (withFio.contains(name) && arguments.contains { $0.contains("fio") })
  }
}
