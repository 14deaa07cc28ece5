{% macro _shape(relation) %}
  {%- set place -%}
    lower(database_name) = '{{ relation.database | lower | replace("'", "''") }}'
    and lower(schema_name) = '{{ relation.schema | lower | replace("'", "''") }}'
    and lower(table_name) = '{{ relation.identifier | lower | replace("'", "''") }}'
  {%- endset -%}
  {%- set query -%}
    select
      substr(sql, strpos(sql, '(')) as definition,
      coalesce((
        select string_agg(concat_ws(' ', is_unique, expressions), '; ' order by is_unique, expressions)
        from duckdb_indexes() where {{ place }}
      ), '') as indexes,
      exists (
        select 1 from duckdb_constraints()
        where {{ place }} and constraint_type in ('PRIMARY KEY', 'UNIQUE', 'FOREIGN KEY')
      ) as has_keys,
      coalesce((
        select to_json(list(column_name)) from duckdb_columns() where {{ place }} and comment is not null
      ), '[]') as commented
    from duckdb_tables() where {{ place }}
  {%- endset -%}
  {%- for row in run_query(query).rows -%}
    {{ return({
      'definition': row[0],
      'indexes': row[1],
      'has_keys': row[2],
      'commented': fromjson(row[3]),
    }) }}
  {%- endfor -%}
  {{ return(none) }}
{% endmacro %}
