"""The configuration of a loopback pool, as a template that personal.py fills in.

It holds nothing but what differs from HTCondor's defaults, and why. The macros are explained in
HTCondor's manual, Configuration Macros.
"""

CONFIGURATION = """\
RELEASE_DIR = {prefix}/usr
BIN = $(RELEASE_DIR)/bin
SBIN = $(RELEASE_DIR)/sbin
LIB = $(RELEASE_DIR)/lib/condor
LIBEXEC = $(RELEASE_DIR)/libexec/condor
SHARE = $(RELEASE_DIR)/share/condor
LOCAL_DIR = {directory}
LOG = $(LOCAL_DIR)/log
SPOOL = $(LOCAL_DIR)/spool
LOCK = $(LOCAL_DIR)/lock
RUN = $(LOCAL_DIR)/run
EXECUTE = $(LOCAL_DIR)/execute
ETC = $(LOCAL_DIR)/etc
CRED_STORE_DIR = $(LOCAL_DIR)/credentials
DAEMON_SOCKET_DIR = {sockets}
PROCD_ADDRESS = $(RUN)/procd_pipe
LOCAL_CONFIG_FILE =
LOCAL_CONFIG_DIR =

use ROLE: CentralManager
use ROLE: Submit
use ROLE: Execute

# Nothing but the loopback, and no fixed port.
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:0
COLLECTOR_ADDRESS_FILE = $(LOG)/.collector_address
SCHEDD_ADDRESS_FILE = $(LOG)/.schedd_address
STARTD_ADDRESS_FILE = $(LOG)/.startd_address
MASTER_ADDRESS_FILE = $(LOG)/.master_address
NO_DNS = True
DEFAULT_DOMAIN_NAME = {domain}
NETWORK_HOSTNAME = loopback

# Who is who: the account of the daemons by the file system, everybody by token.
CONDOR_IDS = {uid}.{gid}
UID_DOMAIN = {domain}
FILESYSTEM_DOMAIN = {domain}
TRUST_DOMAIN = {domain}
SEC_PASSWORD_DIRECTORY = $(LOCAL_DIR)/passwords.d
SEC_TOKEN_SYSTEM_DIRECTORY = $(LOCAL_DIR)/tokens.d
SEC_TOKEN_DIRECTORY = $(LOCAL_DIR)/user_tokens.d
SEC_KNOWN_HOSTS = $(LOCAL_DIR)/known_hosts
SEC_TOKEN_POOL_SIGNING_KEY_FILE = $(LOCAL_DIR)/passwords.d/{key}
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_DEFAULT_INTEGRITY = REQUIRED
SEC_DEFAULT_ENCRYPTION = OPTIONAL
SEC_DEFAULT_AUTHENTICATION_METHODS = FS, IDTOKENS
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_DAEMON = {account}@$(UID_DOMAIN) condor@$(UID_DOMAIN) condor_pool@$(UID_DOMAIN)
ALLOW_NEGOTIATOR = $(ALLOW_DAEMON)
ALLOW_ADMINISTRATOR = $(ALLOW_DAEMON) root@$(UID_DOMAIN)
ALLOW_ADVERTISE_STARTD = $(ALLOW_DAEMON)

# Fast: a job starts about a second after its submission, not 20.
SCHEDD_INTERVAL = 5
SCHEDD_MIN_INTERVAL = 1
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_MIN_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
UPDATE_INTERVAL = 5
STARTER_UPDATE_INTERVAL = 5
STARTER_INITIAL_UPDATE_INTERVAL = 1
SHADOW_QUEUE_UPDATE_INTERVAL = 10
POLLING_INTERVAL = 5
PERIODIC_EXPR_INTERVAL = 5
CLAIM_WORKLIFE = 1200
RUNBENCHMARKS = 0

# The slots, and nothing that touches the machine around them.
START = True
NUM_CPUS = {cores}
MEMORY = {memory_mib}
use FEATURE: PartitionableSlot
ENABLE_KERNEL_TUNING = False
MAIL = /bin/true
SINGULARITY = /bin/false
DOCKER =
STARTD_CRON_JOBLIST =
SCHEDD_CRON_JOBLIST =
"""
