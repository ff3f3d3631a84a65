"""The HTCondor seam: all that imports classad2 or htcondor2, or speaks CEDAR."""
