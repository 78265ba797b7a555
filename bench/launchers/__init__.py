"""How ranks are started: by deepspeed's launcher here or through pdsh, by mpirun, by srun, or by agents on each host."""
