package transmit

// leaseLoan is a lease that ends when the kernel has let go of the file.
type leaseLoan struct {
	lease *Lease
	err   error // that the file may have changed
}

func (l *leaseLoan) returned(bool) { l.err = l.lease.Release() }
