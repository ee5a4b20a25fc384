"""Lightning callbacks: guards, resume, throughput, samples."""
