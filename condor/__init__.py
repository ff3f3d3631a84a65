"""The HTCondor seam: the only code that imports classad2 or htcondor2.

ClassAds, HTCondor's numeric codes and its exceptions stop here: what leaves this package is text,
frozen dataclasses and errors derived from ``condor.errors.CondorError``.
"""
