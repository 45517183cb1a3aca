"""A writing coach: the three consumers of cachekit in one small web application, and a page for teachers.

Run it, and open the address that it prints:

    python -m examples.writing_coach

Each consumer is one file to copy from; any web application has files like the others::

    __main__.py    the command line: the addresses of Redis and the database, the number of workers
      app.py       the application: settings, life, headers, errors as sentences
        passkeys.py    sign up and sign in; a challenge is cached for 5 minutes and spent once
        writing.py     snapshots of a text, kept for 24 hours at most; corrections are learnt from them
        profile.py     the errors of a writer, assembled from the database and cached for 10 minutes
        classes.py     classes and their pupils, cached by tags; each way to invalidate, where it is right
          teacher.py   the routes of the teacher's page, which reads the profiles of a class as a batch
          pupil.py     the routes of a writer who is in a class
          sample.py    an example class
          panel.py     the figures of the cache, counted from its events
          web.py       the parts that the routes share: the database, the session, a refusal as a sentence
            database.py  the tables, on SQLite or PostgreSQL
    static/        the pages: HTML, CSS and JavaScript as the browser reads them
"""
