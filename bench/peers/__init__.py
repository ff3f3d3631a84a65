"""The peers, one program each: the same ``/bin/true`` processes on two slots, without our grid."""
