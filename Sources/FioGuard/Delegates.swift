/// Commands that have others run by a process which is not a descendant of theirs, where nothing watches them: a daemon, a
/// scheduler, another machine.
enum Delegates {
  /// What they run may be fio whatever their arguments say: a container's entry point, a script.
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
  /// The same, but they do much else: only where an argument names fio.
  private static let withFio: Set<String> = [
    "adb", "ansible", "busctl", "clush", "crontab", "dbus-send", "dsh", "gdbus", "kubectl", "mosh", "mpiexec", "mpirun",
    "orterun", "parallel-ssh", "pdsh", "prun", "pssh", "rsh", "ssh", "systemctl", "virsh",
  ]

  /// - Parameters:
  ///   - name: the command's name, without its folder.
  ///   - arguments: all its words.
  static func hasOthersRun(_ name: String, _ arguments: [String]) -> Bool {
    always.contains(name) || (withFio.contains(name) && arguments.contains { $0.contains("fio") })
  }
}
