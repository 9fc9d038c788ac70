"""Disk care: the file systems that are written to are watched, cleaned of what is ours, and waited for.

    room --free < low--> clean --still low--> low: the gate closes, an alert
      ^                    |                   |
      +--------------------+--- free >= resume-+     by itself, the gate opens, the alert is resolved

Nothing is deleted that this project did not make, and a name proves nothing: a temporary folder is ours by a marker in
it whose lock is free, a log file by a manifest that holds its inode and a token that is in its first line. Whatever
cannot be proved stays. What is not there, or cannot be read, is an error in the log and no reason to end.
"""
