"""Tests of a whole container system as objects: run them, judge them, fill databases for them, report on them.

    results     what comes out: frozen values
    survey      made-up respondents of a national election study: skewed, dependent, reproducible
    hostile     texts that break what takes them for anything but text
    data        TestDataManager: fills a ledger by COPY, empties it again
    load        many records into a ledger in one COPY, with its chunks
    measure     a run's figures, read from its history
    validator   TestValidator: what a run's history says about duplicates, pace and errors
    scenarios   what ContainerTestSuite runs
    runs        carries scenarios out on a driver, each into a folder of its own
    tests       ContainerTestSuite
    security    what a worker gives away and lets in, whatever it runs in; containers: what only they have
    framework   AutomatedTestFramework: an environment, suites in it, its end, the reports
    chaos       what the pytest plugin's fixtures are made of

Only histories are judged: a test of one's own that keeps a run's folder can be judged again by TestValidator.
"""
